import JSONValues

/// Keeps special tokens that messages spell apart from those that the template writes.
///
/// Before a conversation is rendered, a mark goes behind the characters of its messages that a special token could begin
/// with: a letter that is nowhere else. In the rendered text the marks tell which characters are a message's; they are
/// taken out, and where they were is a *seam*: no special token is found that has the character before one. A token that
/// two messages, or two parts of one, spell together is found no more than a whole one.
///
/// Marks must not change what a template does. Therefore none goes into what the template's own strings look for
/// (`</think>`); where the text differs nevertheless, only whole special tokens are marked, and at the end of a text what
/// one begins with. A template that looks for its special tokens in messages does not see them there.
struct ContentGuard {
  /// A rendering without marks.
  struct Text {
    var text: String
    /// Places in its UTF-8, in order: what ends there is a message's.
    var seams: [Int]
    /// For each of the places that were asked for, where they lie without marks.
    var ranges: [Range<Int>]
  }

  private let controls: ControlTokens
  /// The template's strings that have a character which a special token begins with.
  private let literals: [[UInt8]]
  private let mark: [UInt8]
  /// Whether only whole tokens are marked, and ends of texts.
  let marksLittle: Bool

  private init(_ controls: ControlTokens, _ literals: [[UInt8]], mark: [UInt8], marksLittle: Bool) {
    (self.controls, self.literals) = (controls, literals)
    (self.mark, self.marksLittle) = (mark, marksLittle)
  }

  /// The guards to try in turn; none where no value has a character that a special token begins with.
  ///
  /// Throws a `TokenizationError` where the values leave no letter for the mark.
  static func candidates(
    _ tokenizer: Tokenizer, _ template: ChatTemplate, _ values: [TemplateValue], _ variables: JSONObject
  ) throws(TokenizationError) -> [ContentGuard] {
    let controls = tokenizer.controls
    var mayBegin = false
    var letters = LetterSearch()
    for value in values {
      value.forEachText { text in
        mayBegin = mayBegin || controls.mayBegin(in: text.utf8)
        letters.search(text)
      }
    }
    guard mayBegin else { return [] }
    letters.search(template.source)
    for (_, value) in variables { TemplateValue(value).forEachText { letters.search($0) } }
    guard let letter = letters.unused else {
      throw TokenizationError(
        "the messages have each letter from U+14400 to U+14646, and no other can tell special tokens in them apart; "
          + "leave some out, or allow special tokens in messages (--parse-special)")
    }
    let mark = Array(String(letter).utf8)
    let literals = template.strings.filter { controls.mayBegin(in: $0) }
    return [false, true].map { ContentGuard(controls, literals, mark: mark, marksLittle: $0) }
  }

  // MARK: Putting marks in

  /// The value with marks in its texts.
  func marking(_ value: TemplateValue) -> TemplateValue { marking(value, isKey: false) }

  private func marking(_ value: TemplateValue, isKey: Bool) -> TemplateValue {
    switch value {
    case .string(let text): return .string(marking(text, isKey: isKey))
    case .list(let values): return .list(values.map { marking($0) })
    case .dictionary(let items):
      var result = TemplateDictionary()
      for (key, value) in zip(items.keys, items.values) { result[marking(key, isKey: true)] = marking(value) }
      return .dictionary(result)
    default: return value
    }
  }

  private func marking(_ text: String, isKey: Bool) -> String {
    guard controls.mayBegin(in: text.utf8) else { return text }
    let bytes = Array(text.utf8)
    let places = isKey ? controls.spellings(in: bytes).map(\.lowerBound) : places(in: bytes)
    guard !places.isEmpty else { return text }
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count + places.count * mark.count)
    var done = 0
    for place in places {
      var end = place + 1
      while end < bytes.count, bytes[end] & 0xC0 == 0x80 { end += 1 }
      result += bytes[done..<end]
      result += mark
      done = end
    }
    return String(decoding: result + bytes[done...], as: UTF8.self)
  }

  /// Where the characters begin that get a mark, in order.
  private func places(in bytes: [UInt8]) -> [Int] {
    let open = controls.openings(in: bytes)
    if marksLittle { return open.filter { $0.isWhole || $0.isCutOff }.map(\.place) }
    var looksFor = [Bool](repeating: false, count: bytes.count)
    for literal in literals {
      var start = 0
      while let found = PythonText.find(literal, in: bytes, from: start) {
        for index in found..<found + literal.count { looksFor[index] = true }
        start = found + literal.count
      }
    }
    return open.filter { $0.isWhole || !looksFor[$0.place] }.map(\.place)
  }

  // MARK: Taking marks out

  /// A rendered text without its marks; `ranges` are stretches of its UTF-8 in order.
  func removingMarks(_ text: String, ranges: [Range<Int>] = []) -> Text {
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count)
    var seams: [Int] = []
    // Where each mark began in the marked text.
    var marks: [Int] = []
    var done = 0
    while let found = PythonText.find(mark, in: bytes, from: done) {
      result += bytes[done..<found]
      seams.append(result.count)
      marks.append(found)
      done = found + mark.count
    }
    result += bytes[done...]
    func place(_ marked: Int) -> Int {
      let before = marks.partitioningIndex { $0 >= marked }
      return min(marked - before * mark.count, result.count)
    }
    return Text(
      text: String(decoding: result, as: UTF8.self), seams: seams,
      ranges: ranges.map { place($0.lowerBound)..<max(place($0.lowerBound), place($0.upperBound)) })
  }

  /// Whether the template wrote a mark as an escape, which nothing takes out.
  func hasEscapedMark(_ text: String) -> Bool {
    guard let scalar = String(decoding: mark, as: UTF8.self).unicodeScalars.first else { return false }
    let escapes =
      [
        "\\U" + PythonText.hexadecimal(scalar.value, 8),
        String(scalar).utf16.map { "\\u" + PythonText.hexadecimal(UInt32($0), 4) }.joined(),
        mark.map { "%" + PythonText.hexadecimal(UInt32($0), 2).uppercased() }.joined(),
      ]
    return escapes.contains { PythonText.contains(text, $0) }
  }
}

/// Finds a letter that no text has, among the Anatolian hieroglyphs: assigned, and as rare as any.
private struct LetterSearch {
  private static let first: UInt32 = 0x14400
  private var isUsed = [Bool](repeating: false, count: 583)

  mutating func search(_ text: String) {
    // All of them begin with this byte.
    guard text.utf8.contains(0xF0) else { return }
    for scalar in text.unicodeScalars where scalar.value >= Self.first {
      let index = Int(scalar.value - Self.first)
      if index < isUsed.count { isUsed[index] = true }
    }
  }

  var unused: Unicode.Scalar? {
    isUsed.firstIndex(of: false).flatMap { Unicode.Scalar(Self.first + UInt32($0)) }
  }
}

extension TemplateValue {
  /// Calls `body` with every text in the value, keys included.
  func forEachText(_ body: (String) -> Void) {
    switch self {
    case .string(let text): body(text)
    case .list(let values): for value in values { value.forEachText(body) }
    case .dictionary(let items):
      for key in items.keys { key.forEachText(body) }
      for value in items.values { value.forEachText(body) }
    default: break
    }
  }
}

extension Array {
  /// How many elements, in order, come before the first that satisfies `isAfter`.
  func partitioningIndex(_ isAfter: (Element) -> Bool) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if isAfter(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
