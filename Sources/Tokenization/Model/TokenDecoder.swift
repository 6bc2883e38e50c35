import JSONValues

/// Turns tokens back into bytes (the `decoder` of tokenizer.json).
///
/// What can be said of each token alone is said once, when the tokenizer is made; what concerns the whole text (white
/// space at its start) is done as the bytes go by.
struct TokenDecoder: Sendable {
  /// One step of the description.
  indirect enum Step: Sendable {
    case byteLevel
    /// `<0xE2>` is a byte; of bytes in a row that are no UTF-8 together, those that are a character stay one where
    /// `keepsCharacters`, as in SentencePiece, and each of them becomes U+FFFD elsewhere, as in `tokenizers`.
    case byteFallback(keepsCharacters: Bool)
    case fuse
    case replace(TextPattern, [UInt8])
    case strip(Unicode.Scalar, start: Int, stop: Int)
    case metaspace(replacement: Unicode.Scalar, dropsFirst: Bool)
    /// The sign that ends words becomes a space, but for the last one.
    case wordEnd([UInt8])
    case sequence([Step])

    var flattened: [Step] {
      if case .sequence(let steps) = self { steps.flatMap(\.flattened) } else { [self] }
    }
  }

  /// What is put between two tokens (only without any decoder).
  let separator: [UInt8]
  /// What is taken off the start of the whole text, so many times.
  let leading: (scalar: Unicode.Scalar, count: Int)?
  /// What is taken off the end of the whole text, so many times.
  let trailing: (scalar: Unicode.Scalar, count: Int)?
  /// Whether a text's first token becomes other bytes than the same token further on.
  let treatsFirstApart: Bool
  /// Whether a text's last token does.
  let treatsLastApart: Bool
  /// Whether characters among bytes that are no UTF-8 together stay.
  let keepsCharacters: Bool
  private let perToken: [Step]

  /// Reads the description in tokenizer.json.
  static func readStep(_ value: JSONValue, at place: String) throws(TokenizationError) -> Step {
    guard let type = value["type"]?.string else { throw TokenizationError("\(place): \"type\" is missing") }
    func scalar(_ key: String, _ standard: Unicode.Scalar) throws(TokenizationError) -> Unicode.Scalar {
      guard let text = value[key]?.string else { return standard }
      guard text.unicodeScalars.count == 1, let scalar = text.unicodeScalars.first else {
        throw TokenizationError("\(place): \"\(key)\" must be one character")
      }
      return scalar
    }
    switch type {
    case "ByteLevel": return .byteLevel
    case "ByteFallback": return .byteFallback(keepsCharacters: false)
    case "Fuse": return .fuse
    case "Replace":
      guard let content = value["content"]?.string else { throw TokenizationError("\(place): \"content\" is missing") }
      return .replace(try TextPattern(value["pattern"], at: "\(place).pattern"), Array(content.utf8))
    case "Strip":
      return .strip(
        try scalar("content", " "), start: max(0, value["start"]?.integer ?? 0),
        stop: max(0, value["stop"]?.integer ?? 0))
    case "Metaspace":
      let scheme = value["prepend_scheme"]?.string ?? ((value["add_prefix_space"]?.bool ?? true) ? "always" : "never")
      return .metaspace(replacement: try scalar("replacement", "\u{2581}"), dropsFirst: scheme != "never")
    case "BPEDecoder": return .wordEnd(Array((value["suffix"]?.string ?? "</w>").utf8))
    case "Sequence":
      var steps: [Step] = []
      for (index, step) in (value["decoders"]?.array ?? []).enumerated() {
        steps.append(try readStep(step, at: "\(place).decoders[\(index)]"))
      }
      return .sequence(steps)
    default:
      throw TokenizationError(
        "\(place): the decoder \"\(type)\" is not known; known are ByteLevel, ByteFallback, Fuse, Replace, Strip, "
          + "Metaspace, BPEDecoder and Sequence")
    }
  }

  /// Makes a decoder of a description; without one, tokens are joined by spaces.
  init(_ step: Step?) {
    separator = step == nil ? [0x20] : []
    var leading: (Unicode.Scalar, Int)?
    var trailing: (Unicode.Scalar, Int)?
    var perToken: [Step] = []
    var isFused = false
    var treatsFirstApart = false
    var treatsLastApart = false
    var keepsCharacters = false
    for step in step?.flattened ?? [] {
      switch step {
      case .fuse: isFused = true
      case .strip(let scalar, let start, let stop) where isFused:
        if start > 0 { leading = (scalar, start) }
        if stop > 0 { trailing = (scalar, stop) }
      case .metaspace(_, let dropsFirst):
        treatsFirstApart = treatsFirstApart || dropsFirst
        perToken.append(step)
      case .wordEnd:
        treatsLastApart = true
        perToken.append(step)
      case .byteFallback(let keeps):
        keepsCharacters = keeps
        perToken.append(step)
      default: perToken.append(step)
      }
    }
    self.keepsCharacters = keepsCharacters
    self.leading = leading
    self.trailing = trailing
    self.treatsFirstApart = treatsFirstApart
    self.treatsLastApart = treatsLastApart
    self.perToken = perToken
  }

  /// The bytes of one token, and whether it is a lone byte of a character.
  func decode(_ token: String, isFirst: Bool = false, isLast: Bool = false) -> (bytes: [UInt8], isByte: Bool) {
    var text = token
    for step in perToken {
      switch step {
      case .byteLevel: return (ByteAlphabet.decode(text) ?? Array(text.utf8), false)
      case .byteFallback: if let byte = Self.byte(of: text) { return ([byte], true) }
      case .replace(let pattern, let content): text = Self.replace(text, pattern, content)
      case .metaspace(let replacement, let dropsFirst):
        text = Self.replace(text, .literal(Array(String(replacement).utf8)), isFirst && dropsFirst ? [] : [0x20])
      case .wordEnd(let sign): text = Self.replace(text, .literal(sign), isLast ? [] : [0x20])
      case .strip(let scalar, let start, let stop):
        var scalars = Substring(text).unicodeScalars
        var (left, right) = (start, stop)
        while left > 0, scalars.first == scalar {
          scalars.removeFirst()
          left -= 1
        }
        while right > 0, scalars.last == scalar {
          scalars.removeLast()
          right -= 1
        }
        text = String(scalars)
      case .fuse, .sequence: break
      }
    }
    return (Array(text.utf8), false)
  }

  /// The byte that `<0xE2>` stands for.
  static func byte(of token: String) -> UInt8? {
    let bytes = Array(token.utf8)
    guard bytes.count == 6, token.hasPrefix("<0x"), bytes[5] == UInt8(ascii: ">") else { return nil }
    return UInt8(String(decoding: bytes[3..<5], as: UTF8.self), radix: 16)
  }

  private static func replace(_ text: String, _ pattern: TextPattern, _ content: [UInt8]) -> String {
    var text = text
    var result: [UInt8] = []
    text.withUTF8 { bytes in
      guard let base = bytes.baseAddress else { return }
      pattern.forEach(in: base, 0..<bytes.count) { range, isMatch in
        if isMatch { result.append(contentsOf: content) } else { result.append(contentsOf: bytes[range]) }
      }
    }
    return String(decoding: result, as: UTF8.self)
  }
}

/// The bytes of every token, laid end to end.
struct TokenBytes: Sendable {
  private var bytes: [UInt8] = []
  private var offsets: [Int] = [0]
  private var isByte: [Bool] = []

  init(_ tokens: [String], isPresent: [Bool], _ decoder: TokenDecoder, verbatim: Set<Int32>) {
    offsets.reserveCapacity(tokens.count + 1)
    isByte.reserveCapacity(tokens.count)
    for (id, token) in tokens.enumerated() {
      let decoded =
        !isPresent[id]
        ? ([], false)
        : verbatim.contains(Int32(truncatingIfNeeded: id)) ? (Array(token.utf8), false) : decoder.decode(token)
      bytes.append(contentsOf: decoded.0)
      offsets.append(bytes.count)
      isByte.append(decoded.1)
    }
  }

  /// The bytes of a token; none for an id that is no token's.
  func callAsFunction(_ id: Int32) -> ArraySlice<UInt8> {
    guard id >= 0, Int(id) < isByte.count else { return [] }
    return bytes[offsets[Int(id)]..<offsets[Int(id) + 1]]
  }

  /// Whether a token is a lone byte (`<0xE2>`).
  func isLoneByte(_ id: Int32) -> Bool { id >= 0 && Int(id) < isByte.count && isByte[Int(id)] }
}
