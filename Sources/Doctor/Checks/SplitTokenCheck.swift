import JSONValues
import Tokenization

/// Special tokens that the tokenizer takes apart.
enum SplitTokenCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    guard let tokenizer = patient.tokenizer else { return [] }
    var contents = SpecialRole.allCases.compactMap { plan.token($0, of: patient)?.content }
    for key in ["additional_special_tokens", "extra_special_tokens"] {
      for token in patient.value("tokenizer_config.json", key)?.array ?? [] {
        if let content = token.string ?? token["content"]?.string { contents.append(content) }
      }
    }
    var findings: [Finding] = []
    var evidence: [String] = []
    var seen: Set<[UInt8]> = []
    // The token that a repair adds is not in the tokenizer yet.
    for content in contents where seen.insert(Array(content.utf8)).inserted && tokenizer.tokenID(content) != nil {
      let ids = tokenizer.encode(content, addSpecialTokens: false)
      if ids.count != 1 {
        evidence.append("`\(content)` becomes \(ids.prefix(8).map(\.description).joined(separator: " "))")
      }
    }
    if !evidence.isEmpty {
      findings.append(
        Finding(
          "special-token-splits", .error,
          "A special token becomes several tokens when it stands in a text, so that the model never sees it as the one that "
            + "it is.",
          evidence: evidence.joined(separator: "; "),
          repair: "Declare it among added_tokens of tokenizer.json, with \"special\": true and \"normalized\": false."))
    }
    return findings + markers(patient, tokenizer)
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
