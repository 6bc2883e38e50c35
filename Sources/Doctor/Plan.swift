import Tokenization

/// What the checks found out so far; each sees what those before it did.
struct Plan {
  /// The tokens that roles get, where they get another.
  var tokens: [SpecialRole: SpecialToken] = [:]
  /// The templates that change, by their places' order in the patient.
  var templateEdits: [Int: [TemplateEdit]] = [:]
  /// The special tokens that the tokenizer takes apart, and that are to be found everywhere.
  var wholeTokens: [String] = []
  /// What ends the assistant's turn, where the template says it with a token.
  var turnEnd: SpecialToken?
  /// Whether the template of plain conversations refuses them.
  var isTemplateRefusing = false

  /// The template of plain conversations, where it can be rendered.
  func template(of patient: Patient) -> (template: Patient.Template, probe: TemplateProbe)? {
    guard !isTemplateRefusing, let template = patient.template, case .success(let parsed) = template.parsed else {
      return nil
    }
    return (template, TemplateProbe(template: parsed, variables: patient.templateVariables(tokens)))
  }

  /// The token of a role once the plan is carried out.
  func token(_ role: SpecialRole, of patient: Patient) -> SpecialToken? { tokens[role] ?? patient.declared(role) }
}

extension Patient {
  /// The changes that give a role to a token wherever its text is named.
  func assign(_ role: SpecialRole, _ token: SpecialToken) -> [Edit] {
    if case .gguf = kind {
      guard let id = token.id.flatMap(UInt32.init(exactly:)) else { return [] }
      return [.metadata(key: role.metadataKey, .uint32(id))]
    }
    var edits: [Edit] = []
    let named = claims.filter { $0.role == role && $0.content != nil }
    for claim in named {
      guard let file = claim.file, let content = claim.content, !isSame(content, token.content) else { continue }
      edits.append(.set(file: file, path: claim.path, .string(token.content)))
    }
    let main = "tokenizer_config.json"
    if !named.contains(where: { $0.file == main }), files[main] != nil {
      edits.append(.set(file: main, path: [.key(role.tokenKey)], .string(token.content)))
    } else if named.isEmpty, files["special_tokens_map.json"] != nil {
      edits.append(.set(file: "special_tokens_map.json", path: [.key(role.tokenKey)], .string(token.content)))
    }
    return edits
  }
}

/// One kind of examination.
protocol Check: SendableMetatype {
  /// Looks at a patient, and says what the plan should do about what it finds.
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding]
}
