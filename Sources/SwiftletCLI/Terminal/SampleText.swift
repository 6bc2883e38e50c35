import Glibc
import Training

/// A training sample in which the eye finds what is trained.
enum SampleText {
  /// Characters of a sample that are shown before a run.
  static let mostCharacters = 1500

  /// Whether text for a terminal, or not, is coloured: `NO_COLOR` forbids it.
  static func isColoured(isTerminal: Bool) -> Bool {
    isTerminal && getenv("NO_COLOR").map { $0.pointee == 0 } ?? true
  }

  /// The documents of an example under a headline, each at most `limit` characters.
  static func text(_ documents: [SamplePreview], number: Int, isColoured: Bool, limit: Int = .max) -> String {
    var result = ""
    for (index, document) in documents.enumerated() {
      let name = documents.count == 1 ? "" : index == 0 ? ", better answer" : ", worse answer"
      result += "── sample \(number)\(name): \(document.ids.count) tokens, \(document.trainedCount) trained\n"
      var left = limit
      var runs: [(text: String, isMarked: Bool)] = []
      for run in document.runs where left > 0 {
        runs.append((String(run.text.prefix(left)), run.isTrained))
        left -= run.text.count
      }
      result += MaskedText.text(runs, isColoured: isColoured)
      if left < 0 { result += "… (\(-left) more characters; --preview shows all)\n" }
    }
    return result
  }
}
