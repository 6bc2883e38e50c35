import JSONValues

/// The tokens that control a model: special ones, and those that begin or end texts and turns or pad.
///
/// A message or a sample that spells one is not to become it. A character that stands for what is unknown (Phi-4's U+FFFD)
/// controls nothing, and is a token like any other.
struct ControlTokens: Sendable {
  /// Where a control token could begin in a text.
  struct Opening {
    /// The character's place in the text's UTF-8.
    var place: Int
    /// Whether a whole token begins there.
    var isWhole: Bool
    /// Whether the text ends within a token that begins there.
    var isCutOff: Bool
  }

  private let isControl: [Bool]
  private let finder: AddedTokenFinder
  /// Per byte, whether a control token's first character begins with it.
  private let mayBegin: [Bool]
  private let firstCharacters: Set<[UInt8]>

  /// Chooses among tokens with their texts, perhaps normalized.
  init(
    vocabularySize: Int, _ tokens: [(token: AddedToken, text: [UInt8])], roles: [Int32], unknown: Int32?
  ) {
    let spellings = tokens.filter { token, _ in
      let isCharacter = token.id == unknown && token.content.unicodeScalars.count == 1
      return (token.isSpecial && !isCharacter) || roles.contains(token.id)
    }
    var isControl = [Bool](repeating: false, count: vocabularySize)
    var mayBegin = [Bool](repeating: false, count: 256)
    var firstCharacters: Set<[UInt8]> = []
    for (token, text) in spellings {
      isControl[Int(token.id)] = true
      guard let first = String(decoding: text, as: UTF8.self).unicodeScalars.first, !text.isEmpty else { continue }
      firstCharacters.insert(Array(String(first).utf8))
      mayBegin[Int(text[0])] = true
    }
    self.isControl = isControl
    self.mayBegin = mayBegin
    self.firstCharacters = firstCharacters
    finder = AddedTokenFinder(spellings)
  }

  /// Whether an id is a control token's.
  func contains(_ id: Int32) -> Bool { isControl[Int(id)] }

  /// Whether a text may have what a control token begins with.
  func mayBegin(in text: some Sequence<UInt8>) -> Bool { text.contains { mayBegin[Int($0)] } }

  /// Every character of a text that a control token begins with.
  func openings(in text: [UInt8]) -> [Opening] {
    text.withUnsafeBufferPointer { bytes in
      guard let base = bytes.baseAddress else { return [] }
      var result: [Opening] = []
      for place in bytes.indices where mayBegin[Int(bytes[place])] {
        let length = UTF8Bytes.scalar(base, place, bytes.count).length
        guard firstCharacters.contains(Array(bytes[place..<min(place + length, bytes.count)])) else { continue }
        let match = finder.match(base, bytes.count, at: place)
        result.append(Opening(place: place, isWhole: match.end != nil, isCutOff: match.isCutOff))
      }
      return result
    }
  }

  /// Where a text spells control tokens, one after the other, and which; `anywhere` finds those too that must be words of
  /// their own and are none.
  func found(in text: [UInt8], anywhere: Bool = false) -> [(token: Int32, range: Range<Int>)] {
    text.withUnsafeBufferPointer { bytes in
      guard let base = bytes.baseAddress else { return [] }
      return finder.split(base, bytes.count, singleWordsAnywhere: anywhere).compactMap { split in
        split.token.map { ($0, split.core) }
      }
    }
  }

  /// Where a text spells control tokens.
  func spellings(in text: [UInt8]) -> [Range<Int>] { found(in: text).map(\.range) }
}

/// A special token that a text spells.
public struct SpelledToken: Sendable, Equatable {
  /// The token's id.
  public let id: Int32
  /// Its text.
  public let token: String
  /// Where it stands in the text's UTF-8 bytes.
  public let range: Range<Int>
}

extension Tokenizer {
  /// The special tokens that a text spells, in order: what ``encode(_:addSpecialTokens:parseSpecialTokens:)`` turns into
  /// their ids where that is asked for, and else takes for text.
  public func specialTokens(spelledIn text: String) -> [SpelledToken] {
    specialTokens(spelledIn: text, anywhere: false)
  }

  /// The special tokens that a text spells; `anywhere` counts those that must be words of their own and are none.
  package func specialTokens(spelledIn text: String, anywhere: Bool) -> [SpelledToken] {
    guard controls.mayBegin(in: text.utf8) else { return [] }
    return controls.found(in: Array(text.utf8), anywhere: anywhere).compactMap { found in
      token(found.token).map { SpelledToken(id: found.token, token: $0, range: found.range) }
    }
  }

  /// The first special token that a text within JSON spells, keys included, and the text's place, such as
  /// `[2].content`.
  public func firstSpecialToken(spelledIn value: JSONValue) -> (token: String, path: String)? {
    switch value {
    case .string(let text): return specialTokens(spelledIn: text).first.map { ($0.token, "") }
    case .array(let values):
      for (index, value) in values.enumerated() {
        if let found = firstSpecialToken(spelledIn: value) { return (found.token, "[\(index)]" + found.path) }
      }
    case .object(let object):
      for (key, value) in object {
        if let found = specialTokens(spelledIn: key).first { return (found.token, "." + key) }
        if let found = firstSpecialToken(spelledIn: value) { return (found.token, "." + key + found.path) }
      }
    default: break
    }
    return nil
  }
}
