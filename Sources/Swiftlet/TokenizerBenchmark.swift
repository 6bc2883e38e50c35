import Tokenization
import Training

/// Times a tokenizer on a text, by one thread.
package enum TokenizerBenchmark {
  /// What was measured.
  package struct Row: Sendable {
    /// Seconds of the median repetition.
    package var seconds: Double
    /// Bytes of the text's UTF-8.
    package var bytes: Int
    /// Tokens of the text.
    package var tokens: Int
    /// A checksum of the ids (CRC-32 of little-endian 32-bit integers), by which other tools' ids are compared.
    package var checksum: String
  }

  /// Encodes a text `repetitions` times; each begins with no word in memory, as a program does.
  package static func run(_ tokenizer: Tokenizer, on text: String, repetitions: Int) -> Row {
    var ids: [Int32] = []
    var seconds: [Double] = []
    for _ in 0..<max(1, repetitions) {
      tokenizer.forgetWords()
      let start = ContinuousClock.now
      ids = tokenizer.encode(text, addSpecialTokens: false)
      seconds.append((ContinuousClock.now - start) / .seconds(1))
    }
    var checksum = CRC32()
    ids.withUnsafeBytes { checksum.update($0) }
    return Row(
      seconds: seconds.sorted()[seconds.count / 2], bytes: text.utf8.count, tokens: ids.count,
      checksum: checksum.hexadecimal)
  }
}
