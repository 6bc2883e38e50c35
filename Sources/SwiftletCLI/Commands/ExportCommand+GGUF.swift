import Export
import Glibc
import ModelFiles
import Training

extension ExportCommand {
  /// Writes one GGUF and Ollama's Modelfile beside it.
  ///
  /// - Parameters:
  ///   - path: The name of the file, or a folder to make.
  ///   - adapters: Folders of adapters, or of runs with checkpoints.
  ///   - formats: Tensors that are stored otherwise than `type` says; asked for when all else is known to be sound.
  static func writeGGUF(
    of model: String, adapters: [String], type: GGUFType, to path: String, formats: () throws -> [String: StorageFormat]
  ) throws {
    let name = path.hasSuffix(".gguf") ? path : "\(path)/\(GGUFNames.file(of: model, type))"
    let (folder, file) = GGUFNames.split(name)
    let modelfile = "\(folder)/Modelfile"
    var (export, loaded) = try readingInput {
      if access(name, F_OK) == 0 { throw ModelFileError(name, "this exists already; choose another --output") }
      try Modelfile.requireReplaceable(modelfile)
      let configuration = try Checkpoint.open(path: model).configuration
      let loaded = try adapters.map {
        try AdapterFile.load(folder: AdapterExport.adapterFolder(in: $0), for: configuration)
      }
      return (try GGUFExport(of: model, adapters: loaded, type: type), loaded)
    }
    let own = try formats()
    if !own.isEmpty {
      export = try readingInput { try GGUFExport(of: model, adapters: loaded, type: type, formats: own) }
    }
    for remark in export.remarks { StandardError.write("swiftlet: \(remark)\n") }
    if name != path, mkdir(path, 0o777) != 0, errno != EEXIST { throw ModelFileError(path, "cannot make the folder") }
    Interruption.catchSignals()
    let result = try write(export, to: name)
    let description = Modelfile(export, gguf: file)
    try description.write(to: modelfile)
    for remark in description.remarks { StandardError.write("swiftlet: \(remark)\n") }
    let formats = result.formats.map { "\($0.count) \($0.name)" }.joined(separator: ", ")
    StandardError.write(
      "swiftlet: wrote \(name): \(export.architecture), \(Formatting.bytes(result.byteCount)), tensors: \(formats)\n")
    if result.fallbackCount > 0 {
      StandardError.write(
        "swiftlet: \(result.fallbackCount) tensors have rows that \(type.rawValue) cannot hold and take a larger type, as in "
          + "llama.cpp\n")
    }
    StandardError.write("swiftlet: for Ollama: ollama create NAME -f \(modelfile)\n")
  }
}

extension ExportCommand {
  /// Writes the file with a line of progress.
  private static func write(_ export: GGUFExport, to path: String) throws -> GGUFExport.Result {
    var progress = CountProgressLine(action: "writing", bytes: export.byteCount)
    defer { progress.finish() }
    return try export.write(to: path) { written in
      if Interruption.isRequested { throw Interruption.error }
      progress.show(written, at: MonotonicClock.now())
    }
  }
}

/// The names of exported files.
private enum GGUFNames {
  /// "phi-4-q4_k_m.gguf".
  static func file(of model: String, _ type: GGUFType) -> String {
    var name = model.split(separator: "/").last.map(String.init) ?? "model"
    if name.hasSuffix(".gguf") { name.removeLast(5) }
    if name.allSatisfy({ $0 == "." }) { name = "model" }
    return "\(name)-\(type.rawValue).gguf"
  }

  static func split(_ path: String) -> (folder: String, name: String) {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
    let folder = String(path[..<slash])
    return (folder.isEmpty ? "/" : folder, String(path[path.utf8.index(after: slash)...]))
  }
}
