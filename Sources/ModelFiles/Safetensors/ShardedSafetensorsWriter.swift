import JSONValues

/// Writes the weights of a model into a folder as Hugging Face lays them out.
///
/// What fits into one file becomes `model.safetensors`; more becomes `model-00001-of-0000N.safetensors` … and an index.
/// The tensors may come in any order; the bytes of one come from its start to its end.
public final class ShardedSafetensorsWriter {
  /// The folder, which must exist.
  public let folder: String
  /// The names of the files, in order.
  public let fileNames: [String]
  private let shards: [SafetensorsWriter]
  private let places: [String: Int]
  private let totalByteCount: Int
  private let order: [String]

  /// Divides the tensors, in their order, into files that stay below a size where a tensor allows it.
  public init(
    folder: String, tensors: [SafetensorsEntry], maximumShardByteCount: Int = 5_000_000_000,
    metadata: [(key: String, value: String)] = [("format", "pt")]
  ) throws(ModelFileError) {
    self.folder = folder
    var groups: [[SafetensorsEntry]] = [[]]
    var (size, total) = (0, 0)
    for entry in tensors {
      guard let count = entry.format.byteCount(shape: entry.shape), count <= Int.max - total else {
        throw ModelFileError(folder, "tensor \(quoted(entry.name)) has a size, \(entry.shape), that leaves 64 bits")
      }
      if size > 0, count > maximumShardByteCount - size {
        groups.append([])
        size = 0
      }
      groups[groups.count - 1].append(entry)
      size += count
      total += count
    }
    fileNames = (1...groups.count).map { Self.name(of: $0, in: groups.count) }
    try checkFreeSpace(in: folder, for: folder, byteCount: total)
    var shards: [SafetensorsWriter] = []
    var places: [String: Int] = [:]
    for (index, group) in groups.enumerated() {
      for entry in group where places.updateValue(index, forKey: entry.name) != nil {
        throw ModelFileError(folder, "tensor \(quoted(entry.name)) cannot be written twice")
      }
      shards.append(
        try SafetensorsWriter(path: folder + "/" + fileNames[index], tensors: group, metadata: metadata))
    }
    self.shards = shards
    self.places = places
    totalByteCount = total
    order = tensors.map(\.name)
  }

  private static func name(of shard: Int, in count: Int) -> String {
    func padded(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    return count == 1 ? "model.safetensors" : "model-\(padded(shard))-of-\(padded(count)).safetensors"
  }

  /// Appends bytes, little-endian, to a tensor.
  public func append(_ bytes: UnsafeRawBufferPointer, to name: String) throws(ModelFileError) {
    try shard(of: name).append(bytes, to: name)
  }

  /// Appends floats to a tensor of fp32, bf16 or f16, rounded to nearest even.
  public func append(_ floats: UnsafeBufferPointer<Float>, to name: String) throws(ModelFileError) {
    try shard(of: name).append(floats, to: name)
  }

  /// Appends floats to a tensor of fp32, bf16 or f16, rounded to nearest even.
  public func append(_ floats: [Float], to name: String) throws(ModelFileError) {
    try shard(of: name).append(floats, to: name)
  }

  /// Brings the files to the disk, the index last; every tensor must be complete.
  public func finish() throws(ModelFileError) {
    for shard in shards { try shard.finish() }
    if shards.count == 1 { return }
    var map = JSONObject()
    for name in order.sorted() { map[name] = places[name].map { .string(fileNames[$0]) } }
    let index: JSONValue = ["metadata": ["total_size": .integer(totalByteCount)], "weight_map": .object(map)]
    try writeAtomically(index.serialized(pretty: true) + "\n", to: folder + "/model.safetensors.index.json")
  }

  private func shard(of name: String) throws(ModelFileError) -> SafetensorsWriter {
    guard let index = places[name] else { throw ModelFileError(folder, "there is no tensor \(quoted(name))") }
    return shards[index]
  }
}
