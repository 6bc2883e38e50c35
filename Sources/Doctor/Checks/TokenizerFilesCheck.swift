import JSONValues
import Tokenization

/// Slow and fast tokenizer files of one folder that disagree.
enum TokenizerFilesCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    guard case .folder = patient.kind, let fast = patient.tokenizerJSON()?["model"] else { return [] }
    var evidence: [String] = []
    var unused: [Finding] = []
    if let slow = JSONFile("vocab.json", in: patient.path, &unused)?.value.object,
      let vocabulary = fast["vocab"]?.object
    {
      evidence += differences(slow, vocabulary)
    }
    if let slow = patient.lines(of: "merges.txt"), let merges = fast["merges"]?.array {
      let rest = slow.first?.hasPrefix("#version") == true ? slow.dropFirst() : slow[...]
      let pairs = merges.map { $0.string ?? ($0.array ?? []).compactMap(\.string).joined(separator: " ") }
      let common = zip(rest, pairs).prefix { isSame(String($0), $1) }.count
      if common < rest.count || common < pairs.count {
        evidence.append(
          "merges.txt has \(rest.count) merges, tokenizer.json \(pairs.count); they differ from merge \(common) on")
      }
    }
    guard !evidence.isEmpty else { return [] }
    return [
      Finding(
        "tokenizer-files-disagree", .warning,
        "The folder's tokenizer files are not the same tokenizer: a text becomes other tokens depending on which of them a "
          + "program reads.",
        evidence: evidence.joined(separator: "; "),
        repair: "Keep tokenizer.json, which most programs read, and remove the others; or save the tokenizer again.")
    ]
  }

  /// The first tokens whose ids differ.
  private static func differences(_ slow: JSONObject, _ fast: JSONObject) -> [String] {
    var count = 0
    var first = ""
    for (token, id) in slow where fast[token]?.integer != id.integer {
      if count == 0 {
        first =
          "`\(token)` is \(id.integer.map(\.description) ?? id.kind) in vocab.json and "
          + "\(fast[token]?.integer.map(\.description) ?? "missing") in tokenizer.json"
      }
      count += 1
    }
    let missing = fast.count { slow[$0.key] == nil }
    if count == 0, missing > 0 { return ["\(missing) tokens of tokenizer.json are missing in vocab.json"] }
    return count == 0 ? [] : ["\(count) tokens of vocab.json differ: \(first)"]
  }
}
