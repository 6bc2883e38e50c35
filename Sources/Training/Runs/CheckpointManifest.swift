import JSONValues
import ModelFiles

/// The list of a checkpoint's files with their sizes and checksums, by which a damaged one is told from a whole one.
struct CheckpointManifest: Equatable {
  struct File: Equatable {
    var name: String
    var byteCount: Int
    var crc32: String
  }

  static let name = "manifest.json"
  var step: Int
  var files: [File]

  /// Lists the files of a folder; a checkpoint holds plain files only.
  init(step: Int, folder: String) throws {
    self.step = step
    files = try Folders.names(in: folder).filter { $0 != Self.name }.map { try Self.describe($0, in: folder) }
  }

  /// Reads the manifest of a folder.
  init(folder: String) throws {
    let path = "\(folder)/\(Self.name)"
    let file = try MappedFile(path: path)
    let json: JSONValue
    do { json = try JSONValue.parse(file.bytes) } catch { throw RunError(path, "\(error)") }
    guard let step = json["step"]?.integer, let entries = json["files"]?.array else {
      throw RunError(path, "`step` or `files` is missing")
    }
    self.step = step
    files = try entries.map { entry in
      guard let name = entry["name"]?.string, let size = entry["bytes"]?.integer, let sum = entry["crc32"]?.string,
        !name.contains("/")
      else { throw RunError(path, "an entry of `files` has no `name`, `bytes` or `crc32`") }
      return File(name: name, byteCount: size, crc32: sum)
    }
  }

  func write(to folder: String) throws {
    let json: JSONValue = [
      "step": .integer(step),
      "files": .array(
        files.map { ["name": .string($0.name), "bytes": .integer($0.byteCount), "crc32": .string($0.crc32)] }),
    ]
    try writeAtomically(json.serialized(pretty: true) + "\n", to: "\(folder)/\(Self.name)")
  }

  /// Compares every file of `folder` with the list.
  func verify(_ folder: String) throws {
    for file in files {
      let path = "\(folder)/\(file.name)"
      guard Folders.exists(path) else { throw RunError(path, "the file is missing from the checkpoint") }
      let mapped = try MappedFile(path: path)
      if mapped.bytes.count != file.byteCount {
        throw RunError(path, "the file is damaged: \(mapped.bytes.count) bytes instead of \(file.byteCount)")
      }
      if Self.checksum(mapped) != file.crc32 { throw RunError(path, "the file is damaged: its checksum differs") }
    }
  }

  private static func describe(_ name: String, in folder: String) throws -> File {
    let file = try MappedFile(path: "\(folder)/\(name)")
    return File(name: name, byteCount: file.bytes.count, crc32: checksum(file))
  }

  /// Of all bytes, a piece of them in memory at a time.
  private static func checksum(_ file: MappedFile) -> String {
    var checksum = CRC32()
    for start in stride(from: 0, to: file.bytes.count, by: 1 << 20) {
      let range = start..<min(start + (1 << 20), file.bytes.count)
      checksum.update(UnsafeRawBufferPointer(rebasing: file.bytes[range]))
      file.release(range)
    }
    return checksum.hexadecimal
  }
}
