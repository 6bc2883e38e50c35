import CTokenization
import Testing

@testable import Tokenization

/// Patterns find the characters of one Unicode version, whichever PCRE2 knows.
@Suite struct PatternTranslationTests {
  private func matches(_ pattern: String, _ text: [UInt8]) throws -> Set<Int> {
    var result: Set<Int> = []
    let pattern = TextPattern.expression(try RegularExpression(pattern))
    text.withUnsafeBufferPointer { text in
      guard let base = text.baseAddress else { return }
      pattern.forEach(in: base, 0..<text.count) { range, isMatch in if isMatch { result.formUnion(range) } }
    }
    return result
  }

  /// A property and the table's categories that belong to it.
  private static let properties: [(name: String, categories: [sl_category])] = [
    ("L", [SL_LL, SL_LM, SL_LO, SL_LT, SL_LU]), ("N", [SL_ND, SL_NL, SL_NO]), ("M", [SL_MC, SL_ME, SL_MN]),
    ("Z", [SL_ZL, SL_ZP, SL_ZS]), ("Lu", [SL_LU]), ("Ll", [SL_LL]), ("Mn", [SL_MN]), ("So", [SL_SO]), ("Cn", [SL_CN]),
    ("L&", [SL_LL, SL_LT, SL_LU]),
  ]

  @Test(arguments: properties.indices)
  func propertiesAreThoseOfTheTable(_ index: Int) throws {
    let (name, categories) = Self.properties[index]
    let set = categories.reduce(UInt32(0)) { $0 | 1 << $1.rawValue }
    var text: [UInt8] = []
    var expected: Set<Int> = []
    var all: Set<Int> = []
    for value in stride(from: UInt32(0), to: 0x30000, by: 1) {
      guard let scalar = Unicode.Scalar(value) else { continue }
      let start = text.count
      text.append(contentsOf: Array(String(scalar).utf8))
      all.formUnion(start..<text.count)
      if UnicodeClasses.set(of: scalar) & set != 0 { expected.formUnion(start..<text.count) }
    }
    let others = all.subtracting(expected)
    #expect(try matches("\\p{\(name)}", text) == expected)
    #expect(try matches("[^\\p{\(name)}]+", text) == others)
    #expect(try matches("\\P{\(name)}+", text) == others)
    #expect(try matches("[\\p{^\(name)}]", text) == others)
  }

  @Test func spacesAndHyphens() throws {
    let text = Array("a \u{180E}\u{2003}\u{85}-b\\s".utf8)
    #expect(try matches(#"\s+"#, text) == [1, 5, 6, 7, 8, 9])
    #expect(try matches(#"[\s-]+"#, text) == [1, 5, 6, 7, 8, 9, 10])
    #expect(try matches(#"[\w-.]+"#, text) == [0, 10, 11, 13])
    #expect(try matches(#"[a\-\s]"#, text) == [0, 1, 5, 6, 7, 8, 9, 10])
    #expect(try matches(#"\\s"#, text) == [12, 13])
    #expect(try matches(#"[]\s]"#, text) == [1, 5, 6, 7, 8, 9])
    #expect(PatternTranslation.translated(#"[a-z]\p{Greek}\n\"#) == #"[a-z]\p{Greek}\n\"#)
  }

  @Test func errorsNameThePattern() {
    #expect(throws: TokenizationError.self) { try RegularExpression(#"(\p{L}"#) }
    #expect(throws: TokenizationError.self) { try RegularExpression(#"\p{Nonsense}"#) }
  }
}
