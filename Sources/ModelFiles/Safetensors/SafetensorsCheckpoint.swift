import Glibc
import JSONValues

/// The weights of a Hugging Face folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
public struct SafetensorsCheckpoint: Sendable {
  /// The folder.
  public let folder: String
  /// The files, in the order of their names.
  public let files: [SafetensorsFile]
  /// The names of all tensors, sorted.
  public let tensorNames: [String]
  private let places: [String: StoredTensor]

  /// Opens every file and checks its header.
  public init(folder: String) throws(ModelFileError) {
    self.folder = folder
    let index = folder + "/model.safetensors.index.json"
    if access(index, F_OK) == 0 {
      (files, places) = try Self.openShards(index, folder)
    } else {
      let file = try SafetensorsFile(path: Self.singleFile(in: folder))
      files = [file]
      places = Dictionary(file.tensors.map { ($0.name, $0) }) { first, _ in first }
    }
    tensorNames = places.keys.sorted()
  }

  /// The tensor of a name.
  public func tensor(_ name: String) -> StoredTensor? { places[name] }

  private static func singleFile(in folder: String) throws(ModelFileError) -> String {
    let path = folder + "/model.safetensors"
    if access(path, F_OK) == 0 { return path }
    if access(folder + "/adapter_model.safetensors", F_OK) == 0 {
      throw ModelFileError(
        folder, "this folder holds an adapter; give the model it was made for, and it as the adapter")
    }
    if access(folder + "/pytorch_model.bin", F_OK) == 0 || access(folder + "/pytorch_model.bin.index.json", F_OK) == 0 {
      throw ModelFileError(folder, "this folder holds pickled weights only; save the model as safetensors first")
    }
    throw ModelFileError(folder, "there is neither model.safetensors nor model.safetensors.index.json here")
  }

  private static func openShards(
    _ index: String, _ folder: String
  ) throws(ModelFileError) -> ([SafetensorsFile], [String: StoredTensor]) {
    let json = try readJSON(index)
    guard let map = json["weight_map"]?.object else { throw ModelFileError(index, "there is no object 'weight_map'") }
    var files: [String: SafetensorsFile] = [:]
    var places: [String: StoredTensor] = [:]
    for (name, value) in map {
      guard let shard = value.string else {
        throw ModelFileError(index, "tensor \(quoted(name)) has \(value.kind) as its file, a name was expected")
      }
      if files[shard] == nil { files[shard] = try open(shard: shard, in: folder, index: index) }
      guard let tensor = files[shard]?.tensor(name) else {
        throw ModelFileError(index, "tensor \(quoted(name)) should be in \(quoted(shard)), but is not")
      }
      places[name] = tensor
    }
    if files["model.safetensors"] == nil, access(folder + "/model.safetensors", F_OK) == 0 {
      throw ModelFileError(
        folder,
        "there are both model.safetensors and an index that does not name it (model.safetensors.index.json); remove the "
          + "one that is not the model")
    }
    for (shard, file) in files {
      for tensor in file.tensors {
        guard let place = places[tensor.name], place.file !== file.file else { continue }
        let other = split(place.file.path).name
        throw ModelFileError(
          folder,
          "tensor \(quoted(tensor.name)) is in two files, \(quoted(min(shard, other))) and \(quoted(max(shard, other)))"
        )
      }
    }
    return (files.sorted { $0.key < $1.key }.map(\.value), places)
  }

  private static func open(
    shard: String, in folder: String, index: String
  ) throws(ModelFileError) -> SafetensorsFile {
    guard !shard.isEmpty, shard != ".", shard != "..", !shard.utf8.contains(where: { $0 == 0 || $0 == 0x2F }) else {
      throw ModelFileError(index, "the file \(quoted(shard)) is no plain name of a file in this folder")
    }
    let path = folder + "/" + shard
    guard access(path, F_OK) == 0 else {
      throw ModelFileError(index, "the file \(quoted(shard)) is missing; fetch the model again")
    }
    guard let home = resolved(folder), let target = resolved(path), isAllowed(target, from: home) else {
      throw ModelFileError(index, "the file \(quoted(shard)) is a link that leaves this folder")
    }
    return try SafetensorsFile(path: path)
  }

  /// Whether a file may be a shard of a folder: it lies there, or it is a blob of the same repository.
  ///
  /// In the hub's cache `models--X/snapshots/REVISION/` holds links to `models--X/blobs/`.
  private static func isAllowed(_ file: String, from folder: String) -> Bool {
    if split(file).folder == folder { return true }
    let snapshots = split(folder).folder
    guard split(snapshots).name == "snapshots" else { return false }
    return split(file).folder == split(snapshots).folder + "/blobs"
  }

  private static func resolved(_ path: String) -> String? {
    guard let pointer = realpath(path, nil) else { return nil }
    defer { free(pointer) }
    return String(cString: pointer)
  }
}

/// Reads a JSON file; an error names the file and the place in it.
public func readJSON(
  _ path: String, options: JSONParsingOptions = .init()
) throws(ModelFileError) -> JSONValue {
  let file = try MappedFile(path: path)
  do throws(JSONError) {
    return try JSONValue.parse(file.bytes, options: options)
  } catch {
    throw ModelFileError(path, "\(error)")
  }
}
