/// Turns tokens into text one at a time, and never shows half a character.
///
/// ```swift
/// var decoder = tokenizer.makeStreamingDecoder()
/// for id in ids { if let text = decoder.append(id) { print(text, terminator: "") } }
/// print(decoder.finish() ?? "")
/// ```
public struct StreamingDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let skipsSpecialTokens: Bool
  private var pending: [UInt8] = []
  private var isFirst = true
  private var leadingLeft: Int
  /// The last token, where it may yet be the text's last.
  private var waiting: Int32?

  init(_ tokenizer: Tokenizer, skipsSpecialTokens: Bool) {
    self.tokenizer = tokenizer
    self.skipsSpecialTokens = skipsSpecialTokens
    leadingLeft = tokenizer.decoder.leading?.count ?? 0
  }

  /// Takes the next token in; returns the text that is certain now, or `nil` while there is none.
  public mutating func append(_ id: Int32) -> String? {
    if skipsSpecialTokens, tokenizer.isSpecial(id) { return nil }
    if !isFirst { pending.append(contentsOf: tokenizer.decoder.separator) }
    if tokenizer.decoder.treatsLastApart {
      // What a token becomes is known only once another one follows.
      defer { waiting = id }
      guard let waiting else { return nil }
      pending.append(contentsOf: tokenizer.bytes(of: waiting, isFirst: isFirst, isLast: false))
    } else {
      pending.append(contentsOf: tokenizer.bytes(of: id, isFirst: isFirst, isLast: false))
    }
    isFirst = false
    if leadingLeft > 0, let leading = tokenizer.decoder.leading {
      let mark = Array(String(leading.scalar).utf8)
      while leadingLeft > 0, pending.count >= mark.count {
        guard pending.starts(with: mark) else {
          leadingLeft = 0
          break
        }
        pending.removeFirst(mark.count)
        leadingLeft -= 1
      }
      if leadingLeft > 0 { return nil }
    }
    var certain = Self.completeLength(pending)
    if let trailing = tokenizer.decoder.trailing {
      // What may still be taken off the end waits.
      let mark = Array(String(trailing.scalar).utf8)
      var left = trailing.count
      while left > 0, certain >= mark.count, pending[..<certain].suffix(mark.count).elementsEqual(mark) {
        certain -= mark.count
        left -= 1
      }
    }
    guard certain > 0 else { return nil }
    let text = String(decoding: pending[..<certain], as: UTF8.self)
    pending.removeFirst(certain)
    return text
  }

  /// Ends the text: returns what still waited.
  ///
  /// Half a character becomes one U+FFFD.
  public mutating func finish() -> String? {
    if let waiting { pending.append(contentsOf: tokenizer.bytes(of: waiting, isFirst: isFirst, isLast: true)) }
    waiting = nil
    if let trailing = tokenizer.decoder.trailing {
      let mark = Array(String(trailing.scalar).utf8)
      var left = trailing.count
      while left > 0, pending.count >= mark.count, pending.suffix(mark.count).elementsEqual(mark) {
        pending.removeLast(mark.count)
        left -= 1
      }
    }
    defer { pending = [] }
    return pending.isEmpty ? nil : String(decoding: pending, as: UTF8.self)
  }

  /// How many bytes there are before a character that is not whole yet.
  static func completeLength(_ bytes: [UInt8]) -> Int {
    var start = bytes.count
    // A character that is not whole starts at most three bytes before the end.
    for back in 1...3 where back <= bytes.count {
      let byte = bytes[bytes.count - back]
      if byte & 0xC0 == 0x80 { continue }
      if byte >= 0xC2, byte <= 0xF4, UTF8Bytes.length(byte) > back, isPossibleStart(bytes.suffix(back)) {
        start = bytes.count - back
      }
      break
    }
    return start
  }

  /// Whether bytes that lack some at the end can still become a character.
  private static func isPossibleStart(_ bytes: ArraySlice<UInt8>) -> Bool {
    guard bytes.count > 1, let first = bytes.first else { return true }
    let second = bytes[bytes.startIndex + 1]
    switch first {
    case 0xE0: return second >= 0xA0
    case 0xED: return second <= 0x9F
    case 0xF0: return second >= 0x90
    case 0xF4: return second <= 0x8F
    default: return true
    }
  }
}
