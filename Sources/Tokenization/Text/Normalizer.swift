import JSONValues
@_spi(_Unicode) import Swift

/// What is done to a text before it is cut (the `normalizer` of tokenizer.json).
indirect enum Normalizer: Sendable {
  case canonicalComposition
  case prepend([UInt8])
  case replace(TextPattern, [UInt8])
  case strip(left: Bool, right: Bool)
  case lowercase
  case sequence([Normalizer])

  /// Reads the description in tokenizer.json; `nil` for `null`.
  static func read(_ value: JSONValue?, at place: String) throws(TokenizationError) -> Normalizer? {
    guard let value, !value.isNull else { return nil }
    guard let type = value["type"]?.string else { throw TokenizationError("\(place): \"type\" is missing") }
    switch type {
    case "Sequence":
      var steps: [Normalizer] = []
      for (index, step) in (value["normalizers"]?.array ?? []).enumerated() {
        if let step = try read(step, at: "\(place).normalizers[\(index)]") { steps.append(step) }
      }
      return .sequence(steps)
    case "NFC": return .canonicalComposition
    case "Prepend":
      guard let text = value["prepend"]?.string else { throw TokenizationError("\(place): \"prepend\" is missing") }
      return .prepend(Array(text.utf8))
    case "Replace":
      guard let content = value["content"]?.string else { throw TokenizationError("\(place): \"content\" is missing") }
      return .replace(try TextPattern(value["pattern"], at: "\(place).pattern"), Array(content.utf8))
    case "Strip":
      return .strip(left: value["strip_left"]?.bool ?? true, right: value["strip_right"]?.bool ?? true)
    case "Lowercase": return .lowercase
    default:
      throw TokenizationError(
        "\(place): the normalizer \"\(type)\" is not known; "
          + "known are NFC, Prepend, Replace, Strip, Lowercase and Sequence")
    }
  }

  /// Rewrites the pieces of a segment.
  func apply(to segment: Segment) {
    switch self {
    case .sequence(let steps):
      for step in steps { step.apply(to: segment) }
    case .prepend(let text):
      segment.rewrite { piece, rewriter in
        rewriter.replace(piece.lowerBound..<piece.lowerBound, with: text)
        rewriter.keep(piece)
      }
    case .replace(let pattern, let content):
      segment.rewrite { piece, rewriter in
        pattern.forEach(in: segment.base, piece) { range, isMatch in
          if isMatch { rewriter.replace(range, with: content) } else { rewriter.keep(range) }
        }
      }
    case .strip(let left, let right):
      segment.rewrite { piece, rewriter in
        var (start, end) = (piece.lowerBound, piece.upperBound)
        while left, start < end {
          let next = UTF8Bytes.scalar(segment.base, start, end)
          guard next.scalar.isWhiteSpace else { break }
          start += next.length
        }
        while right, start < end {
          let previous = UTF8Bytes.before(segment.base, end)
          guard UTF8Bytes.scalar(segment.base, previous, end).scalar.isWhiteSpace else { break }
          end = previous
        }
        rewriter.keep(start..<end)
      }
    case .lowercase:
      segment.rewrite { piece, rewriter in
        var index = piece.lowerBound
        while index < piece.upperBound {
          let next = UTF8Bytes.scalar(segment.base, index, piece.upperBound)
          let range = index..<index + next.length
          let lower = next.scalar.properties.lowercaseMapping
          rewriter.replace(range, with: lower.utf8)
          index += next.length
        }
      }
    case .canonicalComposition: Self.compose(segment)
    }
  }

  /// Canonical composition, one stretch between starters that never compose at a time.
  private static func compose(_ segment: Segment) {
    // Everything below U+0300 is composed already.
    guard (0..<segment.count).contains(where: { segment.base[$0] >= 0xCC }) else { return }
    segment.rewrite { piece, rewriter in
      var index = piece.lowerBound
      while index < piece.upperBound {
        // A stretch starts at a character and takes in what could combine with it: all that follows up to ASCII.
        var end = index
        while end < piece.upperBound, segment.base[end] < 0x80 { end += 1 }
        if end < piece.upperBound, end > index { end -= 1 }
        if end > index { rewriter.keep(index..<end) }
        index = end
        guard index < piece.upperBound else { break }
        end = index + UTF8Bytes.length(segment.base[index])
        while end < piece.upperBound, segment.base[end] >= 0x80 { end += UTF8Bytes.length(segment.base[end]) }
        end = min(end, piece.upperBound)
        let bytes = UnsafeBufferPointer(
          rebasing: UnsafeBufferPointer(start: segment.base, count: segment.count)[index..<end])
        var composed: [UInt8] = []
        for scalar in String(decoding: bytes, as: UTF8.self)._nfc {
          composed.append(contentsOf: Array(String(scalar).utf8))
        }
        if composed.elementsEqual(bytes) {
          rewriter.keep(index..<end)
        } else {
          rewriter.replace(index..<end, with: composed)
        }
        index = end
      }
    }
  }
}
