import JSONValues
import ModelFiles
import Tokenization

/// Special tokens that the tokenizer takes apart.
enum SplitTokenCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    guard let tokenizer = patient.tokenizer else { return [] }
    var roles = SpecialRole.allCases
    // A GGUF's padding may be a place that only fills the vocabulary up; it stands in no text.
    if case .gguf = patient.kind { roles.removeAll { $0 == .pad } }
    var contents = roles.compactMap { plan.token($0, of: patient)?.content }
    for key in ["additional_special_tokens", "extra_special_tokens"] {
      for token in patient.value("tokenizer_config.json", key)?.array ?? [] {
        if let content = token.string ?? token["content"]?.string { contents.append(content) }
      }
    }
    let written = plan.template(of: patient)?.probe.render([.user(1), .assistant(1), .user(2)])
      .map { String(decoding: $0, as: UTF8.self) }
    var (broken, rare): ([String], [String]) = ([], [])
    var edits: [Edit] = []
    var seen: Set<[UInt8]> = []
    // The token that a repair adds is not in the tokenizer yet.
    for content in contents where seen.insert(Array(content.utf8)).inserted {
      guard let id = tokenizer.tokenID(content) else { continue }
      if let pieces = splits(content, id, tokenizer) {
        broken.append("`\(content)` (\(id)) becomes \(pieces)")
      } else if let written, isSplit(content, id, in: written, tokenizer) {
        broken.append("`\(content)` (\(id)) becomes several tokens where the chat template writes it")
      } else {
        let between = "a\(content)a"
        if isSplit(content, id, in: between, tokenizer) {
          rare.append("`\(content)` (\(id)) is not found in `\(between)`")
        }
        continue
      }
      plan.wholeTokens.append(content)
      edits += Self.edits(content, patient)
    }
    var findings: [Finding] = []
    if !broken.isEmpty {
      findings.append(
        Finding(
          "special-token-splits", .error,
          "A special token becomes several tokens when it stands in a text, so that the model never sees it as the one that "
            + "it is.",
          evidence: broken.joined(separator: "; "),
          repair: "Declare it among added_tokens of tokenizer.json, with \"special\": true, \"normalized\": false and "
            + "\"single_word\": false.",
          edits: edits))
    }
    if !rare.isEmpty {
      findings.append(
        Finding(
          "special-token-splits", .note,
          "A special token is found by itself and where the chat template writes it, but becomes several tokens elsewhere.",
          evidence: rare.joined(separator: "; "),
          repair:
            "None is needed unless texts with such places are encoded; \"normalized\" or \"single_word\" of its entry "
            + "in added_tokens is the cause."))
    }
    return findings + markers(patient, tokenizer)
  }

  /// The ids of a token by itself, where it is not found there.
  private static func splits(_ content: String, _ id: Int32, _ tokenizer: Tokenizer) -> String? {
    let ids = tokenizer.encode(content, addSpecialTokens: false)
    return ids == [id] ? nil : ids.prefix(8).map(\.description).joined(separator: " ")
  }

  /// Whether a text spells a token more often than it is found there.
  ///
  /// One that is searched in normalized text may be found only where the normalizer puts its space, one that must be a
  /// word of its own nowhere within a turn.
  private static func isSplit(_ content: String, _ id: Int32, in text: String, _ tokenizer: Tokenizer) -> Bool {
    let spelled = tokenizer.specialTokens(spelledIn: text, anywhere: true).count { $0.id == id }
    return tokenizer.encode(text, addSpecialTokens: false).count { $0 == id } < spelled
  }

  /// What makes an added token found everywhere; none where it is not the token's own entry that hides it.
  private static func edits(_ content: String, _ patient: Patient) -> [Edit] {
    var edits: [Edit] = []
    func mend(_ token: JSONValue, _ file: String, _ path: [JSONText.Step]) {
      guard let text = token["content"]?.string, isSame(text, content) else { return }
      // Where nothing is said, tokens that are not special are searched in normalized text.
      let isNormalized = token["normalized"]?.bool ?? !(token["special"]?.bool ?? false)
      if isNormalized { edits.append(.set(file: file, path: path + ["normalized"], false)) }
      if token["single_word"]?.bool == true { edits.append(.set(file: file, path: path + ["single_word"], false)) }
    }
    for (index, token) in (patient.tokenizerJSON()?["added_tokens"]?.array ?? []).enumerated() {
      mend(token, "tokenizer.json", ["added_tokens", .index(index)])
    }
    let config = "tokenizer_config.json"
    for (key, token) in patient.value(config, "added_tokens_decoder")?.object ?? [:] {
      mend(token, config, ["added_tokens_decoder", .key(key)])
    }
    return edits
  }

  /// What looks like a control token in a template but is spelt out.
  private static func markers(_ patient: Patient, _ tokenizer: Tokenizer) -> [Finding] {
    guard let template = patient.template, case .success = template.parsed,
      let places = TemplateSource(template.source)
    else { return [] }
    var found: [String] = []
    for literal in places.literals {
      var start = 0
      while let open = find("<|".utf8, in: literal.value, from: start),
        let close = find("|>".utf8, in: literal.value, from: open + 2), found.count < 16
      {
        start = close + 2
        let marker = String(decoding: literal.value[open..<start], as: UTF8.self)
        guard !marker.contains(where: \.isWhitespace), !found.contains(marker) else { continue }
        if tokenizer.encode(marker, addSpecialTokens: false).count > 1 { found.append(marker) }
      }
    }
    guard !found.isEmpty else { return [] }
    return [
      Finding(
        "template-marker-is-text", .note,
        "The chat template has marks that look like control tokens but are plain text to this tokenizer: they cost "
          + "several tokens each.",
        evidence: found.map { "`\($0)`" }.joined(separator: ", "),
        repair: "None is needed where the model was trained so; else this is the template of another model.")
    ]
  }
}
