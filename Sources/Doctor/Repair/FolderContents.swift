import Glibc
import JSONValues
import ModelFiles

/// The files of a folder that repairs change, in memory.
struct FolderContents {
  let folder: String
  /// Files that differ from those of the folder, by name.
  private(set) var changed: [String: [UInt8]] = [:]

  init(_ folder: String, _ edits: [Edit]) throws {
    self.folder = folder
    var texts: [String: JSONText] = [:]
    func edit(_ file: String, _ change: (inout JSONText) -> Bool) throws {
      var text = try texts[file] ?? JSONText(MappedFile.contents(of: folder + "/" + file))
      guard change(&text) else { throw ModelFileError(folder + "/" + file, "the place to repair is not there") }
      texts[file] = text
    }
    for change in edits {
      switch change {
      case .set(let file, let path, let value): try edit(file) { $0.set(path, to: value) }
      case .rename(let file, let path, let name): try edit(file) { $0.renameKey(at: path, to: name) }
      case .removeElements(let file, let path, let indices): try edit(file) { $0.removeElements(indices, from: path) }
      case .insertElement(let file, let path, let value, let atStart):
        try edit(file) { $0.insertElement(value, atStart: atStart, of: path) }
      case .template(.json(let file, let path), let edits):
        try edit(file) { $0.splice(path, edits.map { (range: $0.range, text: $0.text) }) }
      case .template(.file(let name), let edits):
        let source = String(decoding: try MappedFile.contents(of: folder + "/" + name), as: UTF8.self)
        changed[name] = Array(TemplateEdit.apply(edits, to: source).utf8)
      case .template(.metadata, _), .template(.given, _), .metadata: break
      }
    }
    for (file, text) in texts { changed[file] = text.bytes }
  }
}
