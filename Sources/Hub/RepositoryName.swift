/// A model on the hub: `OWNER/NAME`, with the file of it that is meant and its revision where given.
public struct RepositoryName: Sendable, Equatable {
  /// `OWNER/NAME`, or `NAME` alone for the oldest models.
  public let id: String
  /// A branch, tag or commit.
  public let revision: String
  /// One file of the repository: `OWNER/NAME/model.gguf`.
  public let file: String?

  /// Reads `OWNER/NAME[/FILE][@REVISION]`; nil when the text is no such name.
  public init?(_ text: String, revision: String? = nil) {
    var rest = Substring(text)
    for prefix in ["https://huggingface.co/", "hf://"] where rest.hasPrefix(prefix) {
      rest = rest.dropFirst(prefix.count)
    }
    var named: String?
    if let at = rest.lastIndex(of: "@") {
      named = String(rest[rest.index(after: at)...])
      rest = rest[..<at]
    }
    let parts = rest.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count >= 1, parts.allSatisfy({ !$0.isEmpty }), parts.prefix(2).allSatisfy(Self.isName) else {
      return nil
    }
    let wanted = revision ?? named ?? "main"
    guard Self.isRevision(wanted) else { return nil }
    id = parts.prefix(2).joined(separator: "/")
    let path = parts.dropFirst(2).joined(separator: "/")
    guard path.isEmpty || RepositoryFile.isSafe(path) else { return nil }
    file = path.isEmpty ? nil : path
    self.revision = wanted
  }

  /// The name of its folder in the cache.
  var folder: String { "models--" + id.split(separator: "/").joined(separator: "--") }

  /// The hub's rule: letters, digits, `-`, `_`, `.`; neither `..` nor `--`, and no `-` or `.` at either end.
  private static func isName(_ part: Substring) -> Bool {
    let bytes = part.utf8
    guard bytes.count <= 96, !part.contains(".."), !part.contains("--"), let first = bytes.first, let last = bytes.last
    else { return false }
    func isMark(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") }
    return !isMark(first) && !isMark(last)
      && bytes.allSatisfy { isMark($0) || $0 == UInt8(ascii: "_") || isAlphanumeric($0) }
  }

  private static func isRevision(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 255 && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
      && !text.contains("..") && !text.hasPrefix("/") && !text.hasSuffix("/")
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: false
    }
  }
}

/// A text as one segment of a URL's path; `/` stays where asked.
func percentEncoded(_ text: String, keepingSlashes: Bool) -> String {
  var result = ""
  for byte in text.utf8 {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."),
      UInt8(ascii: "~"):
      result.unicodeScalars.append(Unicode.Scalar(byte))
    case UInt8(ascii: "/") where keepingSlashes: result += "/"
    default: result += "%" + hexadecimal([byte]).uppercased()
    }
  }
  return result
}

/// Bytes as lower-case hexadecimal digits.
func hexadecimal(_ bytes: [UInt8]) -> String {
  let digits = Array("0123456789abcdef".unicodeScalars)
  var text = String.UnicodeScalarView()
  for byte in bytes {
    text.append(digits[Int(byte >> 4)])
    text.append(digits[Int(byte & 15)])
  }
  return String(text)
}
