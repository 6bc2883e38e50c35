import JSONValues
import Tokenization

/// Tokens whose id lies beyond the rows of the embedding.
enum EmbeddingRowCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    var findings: [Finding] = []
    if let embedding = patient.embedding, let promised = patient.promisedRows, promised != embedding.rowCount {
      findings.append(
        Finding(
          "embedding-size-disagrees", .error,
          "The configuration and the weights differ in the size of the vocabulary, so that loading fails.",
          evidence: "config.json: vocab_size is \(promised), \(embedding.name) has \(embedding.rowCount) rows",
          repair: "Make vocab_size \(embedding.rowCount).",
          edits: patient.value("config.json", "vocab_size") == nil
            ? [] : [.set(file: "config.json", path: ["vocab_size"], .integer(embedding.rowCount))]))
    }
    guard let rows = patient.rows else { return findings }
    let beyond = patient.vocabulary.added.filter { Int($0.id) >= rows }
    guard patient.vocabulary.highestID >= rows else { return findings }
    let sources = patient.templates.map { Array($0.source.utf8) }
    let roles = SpecialRole.allCases.compactMap { plan.token($0, of: patient)?.content }
    let isUsed = beyond.contains { token in
      roles.contains { isSame($0, token.content) } || sources.contains { find(token.content.utf8, in: $0) != nil }
    }
    let names = beyond.prefix(5).map { "`\($0.content)` (\($0.id))" }.joined(separator: ", ")
    findings.append(
      Finding(
        "token-without-embedding", isUsed || beyond.isEmpty ? .error : .warning,
        "The vocabulary has tokens without a row of the embedding: the first text that holds one ends in an error or in "
          + "garbage.",
        evidence: "ids go up to \(patient.vocabulary.highestID), the embedding has \(rows) rows"
          + (beyond.isEmpty ? "" : ": \(names)\(beyond.count > 5 ? " and \(beyond.count - 5) more" : "")"),
        repair: "Remove the tokens, or give the embedding their rows and train them."))
    return findings
  }
}
