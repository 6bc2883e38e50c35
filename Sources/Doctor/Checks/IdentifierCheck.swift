import JSONValues
import Tokenization

/// Ids and texts of special tokens on which the files disagree, with each other or with what is repaired.
enum IdentifierCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    var evidence: [String] = []
    var repairs: [String] = []
    var edits: [Edit] = []
    for claim in patient.claims {
      guard let file = claim.file, let token = plan.token(claim.role, of: patient) else { continue }
      if let ids = claim.ids, let id = token.id, !ids.contains(id) {
        evidence.append(
          "\(claim.place) is \(ids.map(\.description).joined(separator: ", ")), \(claim.role.name) is \(token.description)"
        )
        repairs.append("\(claim.place) \(id)")
        let isList = patient.value(file, claim.role.idKey)?.array != nil
        edits.append(
          .set(file: file, path: claim.path, isList ? .array((ids + [id]).map { .integer($0) }) : .integer(id)))
      } else if let content = claim.content, plan.tokens[claim.role] == nil, !isSame(content, token.content) {
        evidence.append("\(claim.place) is `\(content)`, \(claim.role.name) is \(token.description)")
        repairs.append("\(claim.place) `\(token.content)`")
        edits.append(.set(file: file, path: claim.path, .string(token.content)))
      }
    }
    compareTables(patient, &evidence, &repairs, &edits)
    var findings: [Finding] = []
    if !evidence.isEmpty {
      findings.append(
        Finding(
          "ids-disagree", .warning,
          "The files do not agree on special tokens (as they are, or as they will be once the rest is repaired): which of "
            + "them takes effect depends on the program.",
          evidence: evidence.joined(separator: "; "), repair: "Make it \(repairs.joined(separator: ", ")).",
          edits: edits))
    }
    return findings + outside(patient, plan)
  }

  /// The tables of added tokens beside tokenizer.json.
  private static func compareTables(
    _ patient: Patient, _ evidence: inout [String], _ repairs: inout [String], _ edits: inout [Edit]
  ) {
    guard patient.vocabulary.isComplete else { return }
    let config = "tokenizer_config.json"
    let table = patient.value(config, "added_tokens_decoder")?.object ?? [:]
    for (key, token) in table {
      guard let content = token["content"]?.string, let id = patient.vocabulary.id(of: content), Int(key) != id else {
        continue
      }
      guard evidence.count < 8 else { return }
      evidence.append("\(config): added_tokens_decoder has `\(content)` as \(key), the tokenizer as \(id)")
      repairs.append("`\(content)` \(id)")
      if table["\(id)"] == nil {
        edits.append(.rename(file: config, path: ["added_tokens_decoder", .key(key)], to: "\(id)"))
      }
    }
    let added = "added_tokens.json"
    for (content, value) in patient.files[added]?.value.object ?? [:] {
      guard let id = patient.vocabulary.id(of: content), value.integer != id else { continue }
      guard evidence.count < 8 else { return }
      evidence.append(
        "\(added) has `\(content)` as \(value.integer.map(\.description) ?? value.kind), the tokenizer as \(id)")
      repairs.append("`\(content)` \(id)")
      edits.append(.set(file: added, path: [.key(content)], .integer(id)))
    }
  }

  /// Tokens and ids that nothing stands for.
  private static func outside(_ patient: Patient, _ plan: Plan) -> [Finding] {
    var evidence: [String] = []
    for claim in patient.claims where claim.role != .pad {
      if let content = claim.content, patient.vocabulary.isComplete, patient.vocabulary.id(of: content) == nil,
        plan.tokens[claim.role] == nil
      {
        evidence.append("\(claim.place) is `\(content)`, which is not in the vocabulary")
      }
      let limit = patient.rows ?? (patient.vocabulary.isComplete ? patient.vocabulary.highestID + 1 : nil)
      guard let limit, plan.token(claim.role, of: patient)?.id == nil else { continue }
      for id in claim.ids ?? [] where id < 0 || id >= limit {
        evidence.append("\(claim.place) is \(id), there are \(limit) tokens")
      }
    }
    guard !evidence.isEmpty else { return [] }
    return [
      Finding(
        "token-outside-vocabulary", .error,
        "A special token is not in the vocabulary: programs refuse the model, or give the token an id without a row of "
          + "the embedding.",
        evidence: evidence.joined(separator: "; "), repair: "Name a token that the vocabulary has.")
    ]
  }
}
