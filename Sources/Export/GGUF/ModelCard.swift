import Glibc
import JSONValues
import ModelFiles

/// What a model's files say of its name and licence.
struct ModelCard: Sendable {
  /// The model's name.
  let name: String
  /// The licence's short name (`mit`), where the card says one.
  let licence: String?
  /// The text of the licence, where there is a file of it.
  let licenceText: String?

  private static let licenceFiles = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"]

  init(of checkpoint: Checkpoint) {
    switch checkpoint.tokenizerSource {
    case .gguf(let file):
      name = file.metadata["general.name"]?.string ?? Self.name(of: file.path)
      licence = file.metadata["general.license"]?.string
      licenceText = nil
    case .folder(let folder):
      let own = (try? readJSON("\(folder)/config.json"))?["_name_or_path"]?.string
      let last = own?.split(separator: "/").last.map(String.init) ?? ""
      name = last.isEmpty ? Self.name(of: folder) : last
      licence = Self.text("\(folder)/README.md").flatMap(Self.licence)
      licenceText = Self.licenceFiles.lazy.compactMap { Self.text("\(folder)/\($0)") }.first
    }
  }

  /// `general.name`: by "phi-3" or "phi3" in it llama.cpp knows that special tokens take in the white space that follows
  /// them, and it does not load such a model without Phi-3's tokens.
  func name(for tokenizer: ExportedTokenizer) -> String {
    let isNamed = Self.phi3.contains { name.lowercased().contains($0) }
    if tokenizer.isPhi3 { return isNamed ? name : "Phi-3 \(name)" }
    guard isNamed else { return name }
    var spaced: [Character] = []
    for character in name {
      if character == "3", spaced.last == "-" { spaced.removeLast() }
      if character == "3", String(spaced.suffix(3)).lowercased() == "phi" { spaced.append(" ") }
      spaced.append(character)
    }
    return String(spaced)
  }

  private static let phi3 = ["phi-3", "phi3"]

  private static func name(of path: String) -> String {
    var name =
      realpath(path, nil).map { resolved in
        defer { free(resolved) }
        return String(cString: resolved)
      } ?? path
    if let last = name.split(separator: "/").last { name = String(last) }
    return name.hasSuffix(".gguf") ? String(name.dropLast(5)) : name
  }

  /// The text of a file that is not absurdly large.
  private static func text(_ path: String) -> String? {
    guard let file = try? MappedFile(path: path), file.bytes.count < 1 << 20 else { return nil }
    return withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
  }

  /// `license: mit` in the card's head, which stands between two lines of dashes.
  private static func licence(_ card: String) -> String? {
    let lines = card.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.first?.hasPrefix("---") == true else { return nil }
    for line in lines.dropFirst() {
      if line.hasPrefix("---") { break }
      guard line.hasPrefix("license:") else { continue }
      let value = line.dropFirst("license:".count).filter { !$0.isWhitespace && $0 != "\"" && $0 != "'" }
      return value.isEmpty ? nil : String(value)
    }
    return nil
  }
}
