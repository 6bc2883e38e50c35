import JSONValues
import ModelFiles
import Tokenization

/// EOS that is not what ends the assistant's turn; the end is derived by rendering, not from names.
enum EndOfTurnCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    let eos = patient.declared(.eos)
    guard patient.template != nil else { return withoutTemplate(patient, eos) }
    guard let (template, probe) = plan.template(of: patient), let (close, rest) = probe.turnClose else { return [] }
    let roles = SpecialRole.allCases.compactMap { patient.declared($0) }
    // Words before a token belong to the end too: `\n</s>`.
    if let (token, _) = patient.vocabulary.firstAdded(in: close, also: roles) {
      plan.turnEnd = token
      guard eos != token else { return [] }
      return wrong(template, patient, &plan, eos, token, close + rest)
    }
    if isBlank(close) { return withoutEnd(template, patient, eos, rest, &plan) }
    return [textual(template, eos, trimmed(close))]
  }

  private static func withoutTemplate(_ patient: Patient, _ eos: SpecialToken?) -> [Finding] {
    guard eos == nil, !patient.claims.isEmpty else { return [] }
    return [
      Finding(
        "eos-missing", .warning,
        "No token ends a text, so that a model tuned on texts learns no end and generation runs to its limit.",
        evidence: "neither tokenizer_config.json nor special_tokens_map.json has eos_token",
        repair: "Name the model's end-of-text token as eos_token.")
    ]
  }

  private static func wrong(
    _ template: Patient.Template, _ patient: Patient, _ plan: inout Plan, _ eos: SpecialToken?, _ token: SpecialToken,
    _ ending: [UInt8]
  ) -> [Finding] {
    let evidence =
      "\(template.place.description) writes \(shown(ending)) after the assistant's words; EOS is "
      + (eos?.description ?? "not set")
    if let eos, let id = token.id, isListed(id, beside: eos, patient) { return [] }
    if let eos, find(eos.content.utf8, in: ending) != nil {
      return [endsConversation(patient, eos, token, evidence)]
    }
    plan.tokens[.eos] = token
    return [
      Finding(
        "eos-not-end-of-turn", .error,
        "EOS is not what ends the assistant's turn: generation that waits for EOS does not stop where the model stops, and "
          + "trainers teach the model to end with a token that no conversation has.",
        evidence: evidence, repair: "Make \(token.description) EOS.", edits: patient.assign(.eos, token))
    ]
  }

  /// Whether a list of ends names both tokens: then the model knowingly has several.
  private static func isListed(_ id: Int, beside eos: SpecialToken, _ patient: Patient) -> Bool {
    if case .gguf(let file) = patient.kind {
      return ["eot", "eom"].contains { file.metadata["tokenizer.ggml.\($0)_token_id"]?.integer == id }
    }
    return patient.claims.contains { claim in
      guard claim.role == .eos, let ids = claim.ids, ids.contains(id) else { return false }
      return eos.id.map(ids.contains) ?? true
    }
  }

  /// The turn ends with one token, the conversation with EOS.
  private static func endsConversation(
    _ patient: Patient, _ eos: SpecialToken, _ token: SpecialToken, _ evidence: String
  ) -> Finding {
    var edits: [Edit] = []
    var file = ""
    if let id = token.id, let eosID = eos.id {
      let claim = patient.claims.first { $0.role == .eos && $0.ids != nil && $0.file != nil }
      if case .gguf = patient.kind {
        file = "the metadata"
        if let id = UInt32(exactly: id) { edits = [.metadata(key: "tokenizer.ggml.eot_token_id", .uint32(id))] }
      } else if let claim, let name = claim.file {
        file = name
        let ids = (claim.ids ?? []) + ((claim.ids ?? []).contains(eosID) ? [] : [eosID]) + [id]
        edits = [.set(file: name, path: claim.path, .array(ids.map { .integer($0) }))]
      }
    }
    return Finding(
      "end-of-turn-not-listed", edits.isEmpty ? .note : .warning,
      "The assistant's turn ends with one token and the conversation with another, which is EOS: generation that waits for "
        + "EOS alone may run past the end of a turn.",
      evidence: evidence,
      repair: edits.isEmpty
        ? "List \(token.description) beside EOS as eos_token_id in generation_config.json."
        : "List \(token.description) beside EOS in \(file).",
      edits: edits)
  }

  private static func withoutEnd(
    _ template: Patient.Template, _ patient: Patient, _ eos: SpecialToken?, _ rest: [UInt8], _ plan: inout Plan
  ) -> [Finding] {
    if let eos, find(eos.content.utf8, in: rest) != nil { return [] }
    return [
      Finding(
        "turn-without-end", .warning,
        "Nothing ends the assistant's turn in the chat template, so that a tuned model learns no end of its answers.",
        evidence: "\(template.place.description) writes nothing but white space after the assistant's words",
        repair: "Write {{ eos_token }} after the assistant's words in the template.")
    ]
  }

  private static func textual(_ template: Patient.Template, _ eos: SpecialToken?, _ close: [UInt8]) -> Finding {
    Finding(
      "eos-not-end-of-turn", .error,
      "The assistant's turn ends with text that is no token, and not with EOS: generation does not stop there, and a "
        + "tuned model learns to spell its end.",
      evidence:
        "\(template.place.description) writes \(shown(close)) after the assistant's words, which is no token; EOS "
        + "is \(eos?.description ?? "not set")",
      repair:
        "Write {{ eos_token }} there in the template, or add \(shown(close)) to the vocabulary with an embedding row "
        + "that is trained; neither can be done without training the model.")
  }
}
