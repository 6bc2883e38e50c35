import Tokenization

/// A conversation in which the eye finds what is the assistant's.
enum MaskedText {
  /// The text with the assistant's part in colour, or between `⟦` and `⟧` where there are no colours.
  static func text(_ masked: MaskedTokens, isColoured: Bool) -> String {
    let bytes = Array(masked.text.utf8)
    var runs: [(text: String, isMarked: Bool)] = []
    var position = 0
    for range in responses(masked) {
      runs.append((String(decoding: bytes[position..<range.lowerBound], as: UTF8.self), false))
      runs.append((String(decoding: bytes[range], as: UTF8.self), true))
      position = range.upperBound
    }
    runs.append((String(decoding: bytes[position...], as: UTF8.self), false))
    return text(runs, isColoured: isColoured)
  }

  /// Stretches of text, those that are marked in colour or between `⟦` and `⟧`.
  static func text(_ runs: [(text: String, isMarked: Bool)], isColoured: Bool) -> String {
    let (start, end) = isColoured ? ("\u{1B}[1;32m", "\u{1B}[0m") : ("⟦", "⟧")
    var result = ""
    for (body, isMarked) in runs {
      guard isMarked else {
        result += shown(body, isColoured)
        continue
      }
      // A colour that crosses a line end would also fill the next line's prompt on some terminals.
      result +=
        isColoured
        ? body.split(separator: "\n", omittingEmptySubsequences: false).map { start + shown(String($0), true) + end }
          .joined(separator: "\n")
        : start + body + end
    }
    return result + "\n"
  }

  /// The stretches of the text that are the assistant's, next to each other joined.
  private static func responses(_ masked: MaskedTokens) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var previous = false
    for (range, isResponse) in zip(masked.ranges, masked.isResponse) {
      defer { previous = isResponse }
      guard isResponse else { continue }
      if let last = result.last, previous || range.lowerBound <= last.upperBound {
        result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }

  /// A stranger's text for a terminal: what would steer it is shown as a mark.
  private static func shown(_ text: String, _ isColoured: Bool) -> String {
    guard isColoured else { return text }
    return String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { scalar in
          (scalar.value < 0x20 && scalar != "\n" && scalar != "\t") || (0x7F...0x9F).contains(scalar.value)
            ? "\u{FFFD}" : scalar
        }))
  }
}
