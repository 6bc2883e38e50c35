import Glibc

/// The file that holds a tokenizer's vocabulary, by its kind.
enum TokenizerSource: Equatable {
  /// Hugging Face's `tokenizer.json`.
  case json(String)
  /// A SentencePiece model.
  case sentencePiece(String)
  /// A list of tokens by rank, as tiktoken and Llama 3's `tokenizer.model` have it.
  case ranks(String)
  /// Mistral's `tekken.json`.
  case tekken(String)
  /// GPT-2's `vocab.json` and `merges.txt`.
  case vocabularyAndMerges(vocabulary: String, merges: String)

  /// The source in a model folder.
  ///
  /// Of several the first of these counts: `tokenizer.json`, `tokenizer.model`, `tekken.json`, `vocab.json` with
  /// `merges.txt`, a file `*.tiktoken`, a file `*.model` or `*.model.v3` (the last of them by name).
  static func find(in folder: String) throws(TokenizationError) -> TokenizerSource {
    func path(_ name: String) -> String? { isFile(folder + "/" + name) ? folder + "/" + name : nil }
    if let file = path("tokenizer.json") { return .json(file) }
    if let file = path("tokenizer.model") { return try ofFile(file) }
    if let file = path("tekken.json") { return .tekken(file) }
    if let vocabulary = path("vocab.json"), let merges = path("merges.txt") {
      return .vocabularyAndMerges(vocabulary: vocabulary, merges: merges)
    }
    let names = names(in: folder).sorted()
    if let name = names.first(where: { $0.hasSuffix(".tiktoken") }) { return .ranks(folder + "/" + name) }
    if let name = names.last(where: { $0.hasSuffix(".model") || $0.contains(".model.v") }) {
      return try ofFile(folder + "/" + name)
    }
    throw TokenizationError(
      "\(folder)/tokenizer.json: no such file; a model folder needs a tokenizer.json, a tokenizer.model, a tekken.json, "
        + "a vocab.json with its merges.txt, or a .tiktoken file")
  }

  /// What kind of tokenizer one file holds.
  static func ofFile(_ path: String) throws(TokenizationError) -> TokenizerSource {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    let folder = path.contains("/") ? String(path.dropLast(name.utf8.count)) : ""
    if name == "vocab.json" || name == "merges.txt" {
      return .vocabularyAndMerges(vocabulary: folder + "vocab.json", merges: folder + "merges.txt")
    }
    if name.hasSuffix(".json") { return name.hasPrefix("tekken") ? .tekken(path) : .json(path) }
    guard let start = try start(of: path, count: 256) else {
      throw TokenizationError("\(path): no such file")
    }
    if TokenRanks.isPlausible(start) { return .ranks(path) }
    if SentencePieceFile.isPlausible(start) { return .sentencePiece(path) }
    throw TokenizationError(
      "\(path): not a tokenizer; known are tokenizer.json, SentencePiece models, lists of tokens by rank (.tiktoken), "
        + "tekken.json, and vocab.json with merges.txt")
  }

  /// The folder that the file lies in, where its neighbours are looked for.
  var folder: String {
    switch self {
    case .json(let path), .sentencePiece(let path), .ranks(let path), .tekken(let path),
      .vocabularyAndMerges(let path, _):
      guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
      return String(path[..<slash])
    }
  }

  /// The first bytes of a file; `nil` when there is no such file.
  private static func start(of path: String, count: Int) throws(TokenizationError) -> [UInt8]? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else {
      if errno == ENOENT || errno == ENOTDIR { return nil }
      throw TokenizationError("\(path): \(String(cString: strerror(errno)))")
    }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: count)
    let size = read(file, &bytes, count)
    guard size >= 0 else { throw TokenizationError("\(path): \(String(cString: strerror(errno)))") }
    return Array(bytes.prefix(size))
  }

  private static func isFile(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  private static func names(in folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      names.append(
        withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: $0.pointee)) { String(cString: $0) }
        })
    }
    return names
  }
}
