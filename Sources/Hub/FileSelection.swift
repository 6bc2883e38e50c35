import Glibc

/// Which files of a repository are wanted.
public struct FileSelection: Sendable, Equatable {
  /// Globs of wanted paths; empty: what a model needs.
  public var include: [String]
  /// Globs of unwanted paths.
  public var exclude: [String]

  /// A selection from globs, in which `*` also matches `/`, as in Hugging Face's tools.
  public init(include: [String] = [], exclude: [String] = []) {
    self.include = include
    self.exclude = exclude
  }

  /// The files of a listing that are wanted.
  func chosen(from listing: RepositoryListing, of repository: RepositoryName) throws(HubError) -> [RepositoryFile] {
    var files = listing.files
    if let file = repository.file {
      // The shards of a split GGUF belong together.
      let set = Self.splitSet(of: file)
      files = files.filter { $0.path == file || (set != nil && Self.splitSet(of: $0.path) == set) }
      if files.isEmpty { throw HubError("\(repository.id) has no file '\(file)' at revision \(repository.revision)") }
    } else if include.isEmpty {
      files = try Self.whatAModelNeeds(files, of: repository)
    } else {
      files = files.filter { file in include.contains { Self.matches($0, file.path) } }
    }
    files = files.filter { file in !exclude.contains { Self.matches($0, file.path) } }
    if files.isEmpty {
      throw HubError("\(repository.id): no file matches; the repository has \(Self.some(listing.files))")
    }
    return files
  }

  /// Weights once, in the best form there is, and every small file beside them.
  private static func whatAModelNeeds(
    _ files: [RepositoryFile], of repository: RepositoryName
  ) throws(HubError) -> [RepositoryFile] {
    let top = files.filter { !$0.path.contains("/") }
    let hasSafetensors = top.contains { $0.path.hasSuffix(".safetensors") }
    let ggufs = files.filter { $0.path.hasSuffix(".gguf") }
    let models = Set(ggufs.map { splitSet(of: $0.path) ?? $0.path })
    if !hasSafetensors, models.count > 1 {
      throw HubError(
        "\(repository.id) holds \(models.count) .gguf models; name one, e.g. \(repository.id)/\(ggufs[0].path), or use "
          + "--include")
    }
    let others = [".bin", ".pth", ".pt", ".h5", ".msgpack", ".onnx", ".ot", ".tflite", ".mlmodel", ".ckpt", ".zip"]
    return (hasSafetensors || ggufs.isEmpty ? top : top + ggufs.filter { $0.path.contains("/") }).filter { file in
      if file.path == ".gitattributes" || others.contains(where: file.path.hasSuffix) { return false }
      if file.path.hasPrefix("consolidated") && hasSafetensors && hasIndexOrModel(top) { return false }
      return !(hasSafetensors && file.path.hasSuffix(".gguf"))
    }
  }

  /// Whether the weights are also there under Hugging Face's own names (Mistral ships `consolidated.safetensors` beside).
  private static func hasIndexOrModel(_ files: [RepositoryFile]) -> Bool {
    files.contains { $0.path == "model.safetensors" || $0.path == "model.safetensors.index.json" }
  }

  /// What the shards of one split GGUF share: `x-00001-of-00003.gguf` → `x-of-00003.gguf`.
  private static func splitSet(of path: String) -> String? {
    let bytes = Array(path.utf8)
    let suffix = Array("-00000-of-00000.gguf".utf8)
    guard bytes.count > suffix.count else { return nil }
    let start = bytes.count - suffix.count
    for (byte, pattern) in zip(bytes[start...], suffix) {
      let isDigit = (0x30...0x39).contains(byte)
      guard pattern == 0x30 ? isDigit : byte == pattern else { return nil }
    }
    return String(decoding: bytes[..<start] + bytes[(start + 6)...], as: UTF8.self)
  }

  static func matches(_ glob: String, _ path: String) -> Bool {
    // A folder's name means what lies in it, as in Hugging Face's tools.
    fnmatch(glob.hasSuffix("/") ? glob + "*" : glob, path, 0) == 0
  }

  private static func some(_ files: [RepositoryFile]) -> String {
    let names = files.prefix(8).map(\.path).joined(separator: ", ")
    return files.isEmpty ? "none" : names + (files.count > 8 ? ", … (\(files.count) files)" : "")
  }
}
