import CTokenization
import JSONValues
import Testing

@testable import Tokenization

/// Cutting by the known patterns: the scanners against Hugging Face's `tokenizers` and against the patterns themselves.
@Suite struct WordScannerTests {
  /// One pattern of `make_words.py`.
  struct Sample: CustomTestStringConvertible, Sendable {
    let name: String
    let pattern: String
    /// Whether each digit is cut off before.
    let digits: Bool
    let scanned: Bool
    let ends: [[Int]]

    var testDescription: String { name }

    static let texts: [String] =
      (try? goldenJSON("tokenization/words.json"))?["texts"]?.array?.compactMap(\.string) ?? []
    static let all: [Sample] =
      (try? goldenJSON("tokenization/words.json"))?["patterns"]?.array?.map { row in
        Sample(
          name: row["name"]?.string ?? "", pattern: row["pattern"]?.string ?? "", digits: row["digits"]?.bool ?? false,
          scanned: row["scanned"]?.bool ?? false,
          ends: row["ends"]?.array?.map { $0.array?.compactMap(\.integer) ?? [] } ?? [])
      } ?? []
    static let scanned = all.filter(\.scanned)

    /// Whether the pattern is cut by PCRE2.
    func steps(byExpression: Bool) throws -> PreTokenizer {
      let split: PreTokenizer =
        byExpression
        ? .split(.expression(try RegularExpression(pattern)), .isolated, invert: false) : try .isolating(pattern)
      return .sequence(digits ? [.digits(individual: true), split] : [split])
    }
  }

  private func ends(_ text: [UInt8], _ cutting: PreTokenizer) -> [Int] {
    text.withUnsafeBufferPointer { text in
      guard let base = text.baseAddress else { return [] }
      let segment = Segment(base, 0..<text.count)
      cutting.apply(to: segment, keepsBytes: true)
      return segment.pieces.map(\.upperBound)
    }
  }

  /// Through the same way that encoding takes.
  private func scannedEnds(_ text: [UInt8], _ range: Range<Int>, _ cutting: PreTokenizer) throws -> [Int] {
    let (steps, scanner) = cutting.withScannerLast(keepsBytes: true)
    #expect(steps.isEmpty)
    let words = try #require(scanner)
    var result: [Int] = []
    text.withUnsafeBufferPointer { text in
      guard let base = text.baseAddress else { return }
      words.forEachBatch(of: base, range, readable: text.count) { _, ends in result.append(contentsOf: ends) }
    }
    return result
  }

  @Test func goldenValuesAreThere() {
    #expect(Sample.texts.count == 160)
    #expect(Sample.all.count == 12)
    #expect(Sample.scanned.count == 9)
  }

  @Test(arguments: Sample.all)
  func wordsAreTheReference(_ sample: Sample) throws {
    let cutting = try sample.steps(byExpression: false)
    let expression = try sample.steps(byExpression: true)
    #expect((WordScanner(pattern: sample.pattern) != nil) == sample.scanned)
    #expect(WordScanner(pattern: sample.pattern + " ") == nil)
    for (text, expected) in zip(Sample.texts, sample.ends) {
      let bytes = Array(text.utf8)
      #expect(ends(bytes, cutting) == expected, "\(text.debugDescription)")
      #expect(ends(bytes, expression) == expected, "PCRE2: \(text.debugDescription)")
      if sample.scanned {
        #expect(try scannedEnds(bytes, 0..<bytes.count, cutting) == expected, "\(text.debugDescription)")
        // In a longer text, of which nothing outside may be seen.
        let around = Array("a\u{300} ".utf8) + bytes + Array("'s\n".utf8)
        let range = 4..<4 + bytes.count
        #expect(try scannedEnds(around, range, cutting) == expected.map { $0 + 4 }, "\(text.debugDescription)")
      }
    }
  }

  @Test(arguments: Sample.scanned)
  func scannersAreTheirPatterns(_ sample: Sample) throws {
    var random = Generator(state: 11)
    let scanner = try sample.steps(byExpression: false)
    let expression = try sample.steps(byExpression: true)
    let common = Array("  \n\r'sLl\u{17F}1/Aaé\u{300}".unicodeScalars)
    for _ in 0..<3000 {
      var text = String.UnicodeScalarView()
      for _ in 0..<(1 + random.next(40)) {
        switch random.next(4) {
        case 0: text.append(Unicode.Scalar(UInt32(random.next(0x3400))) ?? "x")
        case 1: text.append(Unicode.Scalar(UInt32(random.next(0x2_0000))) ?? "y")
        default: text.append(common[random.next(common.count)])
        }
      }
      let bytes = Array(String(text).utf8)
      #expect(ends(bytes, scanner) == ends(bytes, expression), "\(String(text).debugDescription)")
    }
  }

  /// Runs without a place to cut and with many: the time is that of the length.
  @Test(arguments: Sample.scanned)
  func longRunsAreCutInTime(_ sample: Sample) throws {
    let scanner = try sample.steps(byExpression: false)
    for unit in ["a", "A", " ", "é", "🙂", "\n", "1", "'", "\u{300}", "中", " \n", "\n ", "中A", "A\u{300}", "a1", "'s"] {
      let text = Array(String(repeating: unit, count: 1_000_000 / unit.utf8.count).utf8)
      var ends: [Int] = []
      let time = try processorSeconds { ends = try scannedEnds(text, 0..<text.count, scanner) }
      #expect(ends.last == text.count)
      #expect(time < 3, "\(unit.debugDescription): \(time) s")
    }
  }

  @Test func marksAreCutBefore() {
    let text = Array("▁▁ab▁c d▁▁".utf8)
    var result: [Int] = []
    text.withUnsafeBufferPointer { text in
      guard let base = text.baseAddress else { return }
      WordScanner.marks.forEachBatch(of: base, 0..<text.count, readable: text.count) { result += $1 }
    }
    #expect(result == [8, 14, 20])
  }

  /// Bytes that are no UTF-8 cannot come here; still, nothing is read beyond the end.
  @Test(arguments: Sample.scanned)
  func brokenCharactersEndWithTheText(_ sample: Sample) throws {
    for tail in [[0xC3], [0xE2, 0x96], [0xF0, 0x9F], [0xF7, 0xBF, 0xBF, 0xBF], [0x80], [0xFF]] as [[UInt8]] {
      let text = Array("a".utf8) + tail
      #expect(try scannedEnds(text, 0..<text.count, sample.steps(byExpression: false)).last == text.count)
    }
  }
}

/// Random numbers, the same ones every time.
struct Generator {
  var state: UInt64

  mutating func next(_ bound: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(bound))
  }
}
