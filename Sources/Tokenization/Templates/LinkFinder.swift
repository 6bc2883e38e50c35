/// Finds addresses among words, as Jinja's `urlize` does.
struct LinkFinder {
  /// Characters of an address that are shown.
  var limit: Int?
  /// What each link has besides its address.
  var attributes: String
  /// More beginnings of addresses.
  var schemes: [String]

  private static let heads = ["(", "<", "&lt;"].map { Array($0.utf8) }
  private static let tails = [")", ">", ".", ",", "\n", "&gt;"].map { Array($0.utf8) }
  private static let brackets = [("(", ")"), ("<", ">"), ("&lt;", "&gt;")]
  private static let domains: Set<String> = ["com", "net", "int", "edu", "gov", "org", "info", "mil"]

  /// Whether a text may be the beginning of an address, such as `tel:`.
  static func isScheme(_ text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    guard let colon = scalars.firstIndex(of: ":"), colon >= 2,
      scalars[..<colon].allSatisfy({ PythonText.isWord($0) || ".+-".unicodeScalars.contains($0) })
    else { return false }
    return scalars.count - colon <= 3 && scalars[(colon + 1)...].allSatisfy { $0 == "/" }
  }

  /// The text, its addresses made links.
  func linked(_ text: String) -> String {
    var result = ""
    var rest = text.unicodeScalars[...]
    while let first = rest.first {
      let isSpace = PythonText.isSpace(first)
      let run = rest.prefix { PythonText.isSpace($0) == isSpace }
      rest = rest[run.endIndex...]
      result += isSpace ? String(run) : word(String(run))
    }
    return result
  }

  private func word(_ word: String) -> String {
    var rest = Array(word.utf8)[...]
    while let start = Self.heads.first(where: { rest.starts(with: $0) }) { rest = rest.dropFirst(start.count) }
    let headEnd = rest.startIndex
    while let end = Self.tails.first(where: { rest.suffix($0.count).elementsEqual($0) }) {
      rest = rest.dropLast(end.count)
    }
    let bytes = Array(word.utf8)
    let head = String(decoding: bytes[..<headEnd], as: UTF8.self)
    var middle = String(decoding: rest, as: UTF8.self)
    var tail = String(decoding: bytes[rest.endIndex...], as: UTF8.self)
    for (open, close) in Self.brackets {
      let opened = PythonText.split(middle, open).count - 1
      let closings = PythonText.split(tail, close)
      guard opened > PythonText.split(middle, close).count - 1 else { continue }
      // As many closing brackets as were opened belong to the address, with what stands before them.
      let moved = min(opened, closings.count - 1)
      middle += closings[..<moved].map { $0 + close }.joined()
      tail = closings[moved...].joined(separator: close)
    }
    return head + link(middle) + tail
  }

  private func link(_ text: String) -> String {
    if Self.isAddress(text) {
      let isWhole = text.hasPrefix("https://") || text.hasPrefix("http://")
      return "<a href=\"\(isWhole ? "" : "https://")\(text)\"\(attributes)>\(shortened(text))</a>"
    }
    if text.hasPrefix("mailto:"), Self.isMail(String(text.dropFirst(7))) {
      return "<a href=\"\(text)\">\(text.dropFirst(7))</a>"
    }
    if text.contains("@"), !text.hasPrefix("www."), !text.hasPrefix("@"), !text.contains(":"), Self.isMail(text) {
      return "<a href=\"mailto:\(text)\">\(text)</a>"
    }
    var text = text
    for scheme in schemes where text != scheme && text.hasPrefix(scheme) {
      text = "<a href=\"\(text)\"\(attributes)>\(text)</a>"
    }
    return text
  }

  private func shortened(_ text: String) -> String {
    guard let limit else { return text }
    let scalars = Array(text.unicodeScalars)
    if scalars.count <= limit { return text }
    // Python's `text[:limit]`.
    return PythonText.string(scalars.prefix(limit < 0 ? max(0, scalars.count + limit) : limit)) + "..."
  }

  private static func isASCIILetter(_ scalar: Unicode.Scalar) -> Bool {
    ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar)
  }

  private static func isLabel(_ label: ArraySlice<Unicode.Scalar>) -> Bool {
    !label.isEmpty && label.allSatisfy { PythonText.isWord($0) || $0 == "%" || $0 == "-" }
  }

  /// Whether a word is the address of a page: a scheme or `www.` and a host, or a host in one of the old domains.
  private static func isAddress(_ text: String) -> Bool {
    let lower = text.lowercased()
    let scheme = ["https://", "http://", "www."].first(where: lower.hasPrefix)
    let scalars = Array(text.unicodeScalars)
    if let scheme {
      let rest = scalars.dropFirst(scheme.count)
      if rest.first == "[", scheme != "www." { return isVersion6(rest) }
      let host = rest.prefix { !":/?#".unicodeScalars.contains($0) }
      if endsWell(rest[host.endIndex...]) {
        let labels = host.split(separator: ".", omittingEmptySubsequences: false)
        if labels.dropLast().allSatisfy(isLabel), let last = labels.last, isTopLevel(last) { return true }
        if scheme != "www.", labels.count == 4, labels.allSatisfy(isByte) { return true }
      }
    }
    let host = scalars.prefix { !":/?#".unicodeScalars.contains($0) }
    let labels = host.split(separator: ".", omittingEmptySubsequences: false)
    guard labels.count >= 2, let last = labels.last, domains.contains(PythonText.string(last).lowercased()) else {
      return false
    }
    return labels.dropLast().allSatisfy { isLabel($0) && (2...63).contains($0.count) }
      && endsWell(scalars[host.endIndex...])
  }

  private static func isTopLevel(_ label: ArraySlice<Unicode.Scalar>) -> Bool {
    if (2...63).contains(label.count), label.allSatisfy(isASCIILetter) { return true }
    let rest = label.dropFirst(4)
    return PythonText.string(label.prefix(4)).lowercased() == "xn--" && (2...59).contains(rest.count)
      && rest.allSatisfy { PythonText.isWord($0) || $0 == "%" }
  }

  private static func isByte(_ label: ArraySlice<Unicode.Scalar>) -> Bool {
    (1...3).contains(label.count) && label.allSatisfy { $0.properties.numericType == .decimal }
  }

  /// `[` two groups that end in colons and up to six more `]`.
  private static func isVersion6(_ text: ArraySlice<Unicode.Scalar>) -> Bool {
    guard let close = text.firstIndex(of: "]"), endsWell(text[(close + 1)...]) else { return false }
    let groups = text[(text.startIndex + 1)..<close].split(separator: ":", omittingEmptySubsequences: false)
    guard groups.count >= 3, groups.allSatisfy({ $0.allSatisfy { $0.properties.isASCIIHexDigit } }) else {
      return false
    }
    guard groups.prefix(2).allSatisfy({ $0.count <= 4 }) else { return false }
    // Groups without a colon after them may stand side by side; what remains must fit six of them.
    let rest = groups.dropFirst(2)
    let needed = rest.enumerated().reduce(0) { sum, group in
      let isLast = group.offset == rest.count - 1
      return sum + (isLast ? (group.element.count + 3) / 4 : max(1, (group.element.count + 3) / 4))
    }
    return needed <= 6
  }

  /// Whether nothing follows a host but a port and a path.
  private static func endsWell(_ text: ArraySlice<Unicode.Scalar>) -> Bool {
    var rest = text
    if rest.first == ":" {
      let digits = rest.dropFirst().prefix { $0.properties.numericType == .decimal }
      guard (1...5).contains(digits.count) else { return false }
      rest = rest[digits.endIndex...]
    }
    return rest.isEmpty || rest.first.map { "/?#".unicodeScalars.contains($0) } ?? true
  }

  private static func isMail(_ text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    guard let at = scalars.lastIndex(of: "@"), at > 0 else { return false }
    let host = scalars[(at + 1)...]
    guard let dot = host.lastIndex(of: "."), let first = host.first, PythonText.isWord(first), dot > host.startIndex,
      dot + 1 < host.endIndex
    else { return false }
    return host[(dot + 1)...].allSatisfy(PythonText.isWord)
      && host[..<dot].allSatisfy { PythonText.isWord($0) || $0 == "." || $0 == "-" }
  }
}
