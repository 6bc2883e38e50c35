import Tokenization

/// Templates that open the assistant's turn unasked, or that do not open it when asked.
enum GenerationPromptCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    var findings: [Finding] = []
    for (index, template) in patient.templates.enumerated() {
      guard case .success(let parsed) = template.parsed, !plan.isTemplateRefusing else { continue }
      let probe = TemplateProbe(template: parsed, variables: patient.templateVariables())
      guard let finding = examine(template, probe, patient) else { continue }
      findings.append(finding)
      if case .template(_, let edits)? = finding.edits.first { plan.templateEdits[index] = edits }
    }
    return findings
  }

  private static func examine(
    _ template: Patient.Template, _ probe: TemplateProbe, _ patient: Patient
  ) -> Finding? {
    guard let unasked = probe.render([.user(1)]), let asked = probe.render([.user(1)], prompt: true),
      let tail = TemplateProbe.after(.user(1), in: unasked)
    else { return nil }
    if asked != unasked {
      // The request has an effect; but does the template open the turn without it too?
      guard asked.starts(with: unasked) else { return nil }
      let opening = Array(asked[unasked.count...])
      guard !isBlank(opening), unasked.suffix(opening.count).elementsEqual(opening) else { return nil }
      return opensUnasked(template, probe, patient, opening, isAsked: true)
    }
    if let opening = opening(in: tail, probe, patient) {
      return opensUnasked(template, probe, patient, opening, isAsked: false)
    }
    let whole = probe.render([.user(1), .assistant(1)])
    guard let between = TemplateProbe.between(.user(1), .assistant(1), in: whole), between.starts(with: tail) else {
      return nil
    }
    let header = Array(between[tail.count...])
    return isBlank(header) ? nil : ignoresRequest(template, probe, patient, header)
  }

  /// The opening of the assistant's turn at the end of what follows the user's words.
  ///
  /// What follows must be more than the end of the user's turn (such as `[/INST]`, which rightly comes unasked): the
  /// close that every turn has and then a header, or a header that begins as the user's does.
  private static func opening(in tail: [UInt8], _ probe: TemplateProbe, _ patient: Patient) -> [UInt8]? {
    if let close = probe.turnClose?.close, !isBlank(close), tail.starts(with: close) {
      let rest = Array(tail[close.count...])
      return isBlank(rest) ? nil : rest
    }
    guard let header = probe.userHeader else { return nil }
    var marks: [[UInt8]] = []
    if let (token, range) = patient.vocabulary.firstAdded(in: header), isBlank(header[..<range.lowerBound]) {
      marks.append(Array(token.content.utf8))
    }
    // Signs such as `### ` before a name.
    let signs = trimmed(header).prefix { byte in
      byte < 0x80 && !(0x30...0x39).contains(byte) && !(0x41...0x5A).contains(byte & 0xDF)
    }
    if trimmed(Array(signs)).count >= 2 { marks.append(Array(signs)) }
    for mark in marks {
      var place: Int?
      while let next = find(mark, in: tail, from: place.map { $0 + 1 } ?? 0) { place = next }
      if let place { return Array(tail[place...]) }
    }
    return nil
  }

  private static func opensUnasked(
    _ template: Patient.Template, _ probe: TemplateProbe, _ patient: Patient, _ opening: [UInt8], isAsked: Bool
  ) -> Finding {
    let edits = TemplateRepair(template.source, probe).withholding(opening, isAddedWhenAsked: isAsked)
    return Finding(
      "template-opens-turn-unasked", .error,
      "The chat template opens the assistant's turn though nobody asks for it: conversations for training end in an "
        + "opened turn that nobody fills, and programs that open it themselves open it twice.",
      evidence: "\(template.place.description): one user message without add_generation_prompt ends in "
        + shown(opening),
      repair: edits == nil
        ? "Write it only if add_generation_prompt is true; where it comes from could not be derived, change the template "
          + "by hand."
        : "Write \(shown(opening)) before the assistant's words, and at the end only if add_generation_prompt is true.",
      edits: edits.map { [.template(template.place, $0)] } ?? [])
  }

  private static func ignoresRequest(
    _ template: Patient.Template, _ probe: TemplateProbe, _ patient: Patient, _ header: [UInt8]
  ) -> Finding {
    let edits = TemplateRepair(template.source, probe).adding(header)
    return Finding(
      "template-ignores-generation-prompt", .error,
      "The chat template does not open the assistant's turn when asked to: a model that was trained with its header "
        + "must guess that it is to answer.",
      evidence: "\(template.place.description): with add_generation_prompt nothing is added, though "
        + "\(shown(header)) stands before the assistant's words",
      repair: edits == nil
        ? "Add it at the end if add_generation_prompt is true; the template has to be changed by hand."
        : "Add \(shown(header)) at the end if add_generation_prompt is true.",
      edits: edits.map { [.template(template.place, $0)] } ?? [])
  }
}
