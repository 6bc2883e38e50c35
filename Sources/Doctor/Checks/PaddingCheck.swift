import JSONValues
import Tokenization

/// Padding that is absent, or that is a token which means something else.
enum PaddingCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    // Where no file speaks of special tokens at all there is nothing to compare.
    guard !patient.claims.isEmpty else { return [] }
    guard let problem = problem(patient, plan) else { return [] }
    let choice = PaddingChoice(patient, plan)
    guard let best = choice.best else {
      return [
        Finding(
          problem.id, problem.severity, problem.message, evidence: problem.evidence,
          repair: "No token can take the role: none is reserved, there is no UNK, and no spare row of the embedding is "
            + "known. Name one as pad_token.")
      ]
    }
    if problem.isUnknown, !best.isReserved {
      // UNK is the best there is.
      return [
        Finding(
          problem.id, .note, problem.message, evidence: problem.evidence,
          repair: "None is needed: the vocabulary has no reserved token that would be better.")
      ]
    }
    var edits = patient.assign(.pad, best.token) + best.edits
    var repair = "Make \(best.token.description), \(best.reason), the padding token."
    if let unknown = UnknownTokenRepair(patient) {
      plan.tokens[.unk] = unknown.token
      edits += unknown.edits
      repair += " " + unknown.text
    }
    plan.tokens[.pad] = best.token
    return [
      Finding(
        problem.id, problem.severity, problem.message, evidence: problem.evidence, repair: repair, edits: edits)
    ]
  }

  private struct Problem {
    var id: String
    var severity: Severity
    var message: String
    var evidence: String
    var isUnknown = false
  }

  private static func problem(_ patient: Patient, _ plan: Plan) -> Problem? {
    let claims = patient.claims.filter { $0.role == .pad }
    guard let pad = patient.declared(.pad) else {
      if case .gguf = patient.kind, let id = claims.first?.ids?.first {
        return outside("\(SpecialRole.pad.metadataKey) is \(id)")
      }
      return Problem(
        id: "pad-missing", severity: .warning,
        message:
          "There is no padding token: trainers that fill batches refuse the model, or fill them with a token that "
          + "means something.",
        evidence: isFolder(patient)
          ? "no file has pad_token" : "there is no \(SpecialRole.pad.metadataKey)")
    }
    let place = claims.first?.place ?? "pad_token"
    if pad.id == nil, patient.vocabulary.isComplete {
      return outside("\(place) is \(pad.description), which is not in the vocabulary")
    }
    if let id = pad.id, let rows = patient.rows, id >= rows {
      return outside("\(place) is \(pad.description), the embedding has \(rows) rows")
    }
    let same = SpecialRole.allCases.filter { $0 != .pad && patient.declared($0) == pad }
    let evidence =
      "\(place) is \(pad.description), which is also \(same.map(\.name).joined(separator: ", ").replacingLast())"
    if same.contains(.eos) || plan.tokens[.eos] == pad {
      return Problem(
        id: "pad-is-eos", severity: .warning,
        message:
          "Padding is EOS: trainers that leave padding out of the loss leave out the end of every text too, and the "
          + "model never learns to stop.",
        evidence: evidence)
    }
    if same.contains(.bos), isWritten(pad, patient, plan) {
      return Problem(
        id: "pad-is-bos", severity: .warning,
        message:
          "Padding is BOS: trainers that leave padding out of loss and attention leave out the beginning of every "
          + "text too.",
        evidence: evidence)
    }
    if same.contains(.unk) {
      return Problem(
        id: "pad-is-unk", severity: .warning,
        message:
          "Padding is UNK: trainers that leave padding out of loss and attention leave out unknown characters too.",
        evidence: evidence, isUnknown: true)
    }
    return nil
  }

  /// Whether BOS ever stands before a text: a GGUF names one also for models that have none, as Qwen's.
  private static func isWritten(_ bos: SpecialToken, _ patient: Patient, _ plan: Plan) -> Bool {
    guard case .gguf = patient.kind, patient.tokenizer != nil, !patient.addsBOS else { return true }
    guard let probe = plan.template(of: patient)?.probe, let text = probe.render([.user(1)], prompt: true) else {
      return false
    }
    return find(bos.content.utf8, in: text) != nil
  }

  private static func isFolder(_ patient: Patient) -> Bool { if case .folder = patient.kind { true } else { false } }

  private static func outside(_ evidence: String) -> Problem {
    Problem(
      id: "pad-outside-vocabulary", severity: .error,
      message: "The padding token has no row of the embedding: the first padded batch ends in an error or in garbage.",
      evidence: evidence)
  }
}

extension String {
  /// `a, b, c` as `a, b and c`.
  fileprivate func replacingLast() -> String {
    let parts = split(separator: ",").map { $0.drop { $0 == " " } }
    guard let last = parts.last, parts.count > 1 else { return self }
    return parts.dropLast().joined(separator: ", ") + " and " + last
  }
}
