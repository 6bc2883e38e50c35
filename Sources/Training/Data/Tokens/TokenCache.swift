import Glibc
import JSONValues
import ModelFiles

/// Tokenized datasets on the disk, by what they were made of: the bytes of the files, the tokenizer, the options.
///
/// An entry holds the words of a ``TokenStore``, then where each document begins (64 bits each), then what else is known
/// as JSON, then a trailer: three 64-bit sizes, the CRC-32 of the words and of what follows them, and a magic text. All
/// numbers are little-endian. A damaged entry is as good as none.
struct TokenCache {
  /// The folder of the entries.
  let folder: String

  private static let magic = Array("swiftlet-tokens1".utf8)
  private static let trailerBytes = 48
  /// Data of fewer bytes is tokenized faster than it is looked up and kept.
  static let leastBytes = 1 << 20
  /// Seconds after its last use that an entry is kept.
  private static let lifetime = 30 * 86400

  /// Where entries lie unless told otherwise: below the program's cache folder.
  static var defaultFolder: String? { cacheFolder.map { $0 + "/datasets" } }

  /// What stands for a dataset; `nil` when it is small, or a file cannot be read.
  static func key(_ dataset: Dataset, encoder: some ExampleEncoder, options: TokenizedDataset.Options) -> String? {
    var bytes = 0
    for source in dataset.sources {
      var status = stat()
      guard stat(source.file, &status) == 0 else { return nil }
      bytes += Int(status.st_size)
    }
    guard bytes >= leastBytes, options.sampleLimit == .max, let fingerprint = encoder.fingerprint else { return nil }
    var hash = ContentHash()
    hash.update(magic)
    hash.update(fingerprint)
    hash.update(
      "\(options.maxSequenceLength) \(options.longSamples) \(options.trainOn) \(options.pairs) \(options.strict)")
    for source in dataset.sources {
      hash.update(source.reading)
      guard hash.update(contentsOf: source.file) else { return nil }
    }
    return hash.hexadecimal()
  }

  private func path(_ key: String) -> String { "\(folder)/\(key).tokens" }

  // MARK: Reading

  /// The dataset of a key; `nil` when there is none, or none that is whole.
  func load(_ key: String, _ dataset: Dataset, _ options: TokenizedDataset.Options) -> TokenizedDataset? {
    let path = path(key)
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    guard let entry = read(descriptor, path, dataset, options) else {
      unlink(path)
      return nil
    }
    // The time of the last use is what the clean-up goes by.
    futimens(descriptor, nil)
    return entry
  }

  private func read(
    _ descriptor: Int32, _ path: String, _ dataset: Dataset, _ options: TokenizedDataset.Options
  ) -> TokenizedDataset? {
    var status = stat()
    fstat(descriptor, &status)
    let size = Int(status.st_size)
    let words = TokenStore(descriptor: descriptor, count: max(0, size / 4), path: path)
    func bytes(_ range: Range<Int>) -> [UInt8]? {
      let first = range.lowerBound / 4
      guard range.lowerBound >= 0, range.upperBound <= size,
        let read = try? words.read(first..<min(size / 4, (range.upperBound + 3) / 4))
      else { return nil }
      return read.withUnsafeBytes { Array($0[(range.lowerBound - first * 4)..<(range.upperBound - first * 4)]) }
    }
    guard size % 4 == 0, size >= Self.trailerBytes, let trailer = bytes(size - Self.trailerBytes..<size),
      Array(trailer[32...]) == Self.magic
    else { return nil }
    func number(_ place: Int) -> Int? {
      trailer.withUnsafeBytes { Int(exactly: $0.loadUnaligned(fromByteOffset: place, as: UInt64.self)) }
    }
    func word(_ place: Int) -> UInt32 {
      trailer.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: place, as: UInt32.self) }
    }
    guard let count = number(0), let documents = number(8), let jsonBytes = number(16), count <= size / 4,
      documents > 1, documents <= size / 8, jsonBytes <= size,
      count * 4 + documents * 8 + jsonBytes + Self.trailerBytes == size,
      let rest = bytes(count * 4..<size - Self.trailerBytes), Self.checksum(rest) == word(28),
      let json = try? JSONValue.parse(Array(rest[(documents * 8)...]))
    else { return nil }
    let starts = rest.withUnsafeBytes { rest in
      (0..<documents).map { Int(truncatingIfNeeded: rest.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
    }
    guard starts[0] == 0, starts[documents - 1] == count, zip(starts, starts.dropFirst()).allSatisfy({ $0 < $1 }),
      (documents - 1) % (options.pairs ? 2 : 1) == 0, let counts = json["counts"].flatMap(ExampleCounts.init),
      let fingerprint = json["fingerprint"]?.string, let examples = json["examples"]?.array?.compactMap(\.integer),
      examples.count == dataset.sources.count,
      examples.reduce(0, +) * (options.pairs ? 2 : 1) == documents - 1
    else { return nil }
    var checksum = CRC32()
    for start in stride(from: 0, to: count, by: 1 << 18) {
      guard let piece = try? words.read(start..<min(start + 1 << 18, count)) else { return nil }
      piece.withUnsafeBytes { checksum.update($0) }
    }
    guard checksum.value == word(24) else { return nil }
    let sources = zip(dataset.sources, examples).map {
      TokenizedDataset.Source(path: $0.path, count: $1, weight: $0.weight)
    }
    var remarks: [DataRemark] = []
    for value in json["remarks"]?.array ?? [] {
      guard var remark = DataRemark(value), let source = value["source"]?.integer, sources.indices.contains(source)
      else { return nil }
      remark.path = sources[source].path
      remarks.append(remark)
    }
    return TokenizedDataset(
      store: words, starts: starts, counts: counts, remarks: remarks, sources: sources, fingerprint: fingerprint,
      options: options)
  }

  // MARK: Writing

  /// Keeps a dataset and gives it back as it lies on the disk.
  func save(_ key: String, _ data: TokenizedDataset) throws -> TokenizedDataset {
    try Folders.make(folder)
    removeUnused()
    let path = path(key)
    let writer = try AtomicFileWriter(path: path, expectedByteCount: data.store.count * 4 + data.starts.count * 8)
    var checksum = CRC32()
    for start in stride(from: 0, to: data.store.count, by: 1 << 18) {
      let piece = try data.store.read(start..<min(start + 1 << 18, data.store.count))
      let problem = piece.withUnsafeBytes { bytes -> ModelFileError? in
        checksum.update(bytes)
        do throws(ModelFileError) { try writer.write(bytes) } catch { return error }
        return nil
      }
      if let problem { throw problem }
    }
    let remarks = data.remarks.map { remark -> JSONValue in
      var object = remark.json.object ?? [:]
      object["path"] = ""
      object["source"] = .integer(data.sources.firstIndex { $0.path == remark.path } ?? 0)
      return .object(object)
    }
    let json: JSONValue = [
      "counts": data.counts.json, "fingerprint": .string(data.fingerprint),
      "examples": .array(data.sources.map { .integer($0.count) }), "remarks": .array(remarks),
    ]
    var text = Array(json.serialized().utf8)
    while text.count % 4 != 0 { text.append(UInt8(ascii: " ")) }
    let starts = data.starts.map { UInt64($0).littleEndian }.withUnsafeBytes { Array($0) }
    var trailer: [UInt8] = []
    for number in [data.store.count, data.starts.count, text.count] {
      withUnsafeBytes(of: UInt64(number).littleEndian) { trailer += $0 }
    }
    for number in [checksum.value, Self.checksum(starts + text)] {
      withUnsafeBytes(of: number.littleEndian) { trailer += $0 }
    }
    try writer.write(starts + text + trailer + Self.magic)
    try writer.commit()
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return data }
    let store = TokenStore(descriptor: descriptor, count: data.store.count, path: path)
    return TokenizedDataset(
      store: store, starts: data.starts, counts: data.counts, remarks: data.remarks, sources: data.sources,
      fingerprint: data.fingerprint, options: data.options)
  }

  private func removeUnused() {
    let now = time(nil)
    for name in Folders.names(in: folder) where name.hasSuffix(".tokens") {
      var status = stat()
      guard stat("\(folder)/\(name)", &status) == 0 else { continue }
      if now - status.st_mtim.tv_sec > Self.lifetime { unlink("\(folder)/\(name)") }
    }
  }

  private static func checksum(_ bytes: [UInt8]) -> UInt32 {
    var checksum = CRC32()
    bytes.withUnsafeBytes { checksum.update($0) }
    return checksum.value
  }
}
