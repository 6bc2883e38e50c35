import Tokenization

/// Derives changes of a template from where its texts lie in the source, and proves each by rendering.
struct TemplateRepair {
  private let source: String
  private let probe: TemplateProbe
  private let places: TemplateSource?

  /// Conversations that end with the user's words.
  private static let questions: [[TemplateProbe.Turn]] = [
    [.user(1)], [.system, .user(1)], [.user(1), .assistant(1), .user(2)],
    [.system, .user(1), .assistant(1), .user(2), .assistant(2), .user(3)],
  ]
  /// Conversations that end with the assistant's words.
  private static let answers: [[TemplateProbe.Turn]] = [
    [.user(1), .assistant(1)], [.system, .user(1), .assistant(1)], [.user(1), .assistant(1), .user(2), .assistant(2)],
  ]
  /// Places that are tried at most.
  private static let mostOutputs = 64

  /// Takes a template by its source and what renders it.
  init(_ source: String, _ probe: TemplateProbe) {
    self.source = source
    self.probe = probe
    places = TemplateSource(source)
  }

  // MARK: A turn that is opened unasked

  /// Edits after which the template writes `opening` where the assistant speaks, and at the end only on request.
  ///
  /// - Parameter isAddedWhenAsked: Whether the template adds it on request too, beside writing it unasked.
  func withholding(_ opening: [UInt8], isAddedWhenAsked: Bool) -> [TemplateEdit]? {
    guard let places else { return nil }
    let sources = places.literals.filter {
      $0.value.count >= opening.count && $0.value.suffix(opening.count) == opening[...]
    }
    // All of them at once where there are several branches, else one.
    let choices = sources.count > 1 ? [sources] + sources.map { [$0] } : sources.map { [$0] }
    for choice in choices {
      let cuts = choice.compactMap { literal in
        literal.range(ofLast: opening.count).map { TemplateEdit(range: $0, text: "") }
      }
      guard cuts.count == choice.count else { continue }
      if let edits = moving(opening, cuts, places, isAddedWhenAsked) { return edits }
    }
    for choice in choices {
      let guards = choice.compactMap { guarding($0, opening) }
      guard guards.count == choice.count else { continue }
      let edits = guards.flatMap { $0 }
      if isSound(edits, opening, isAddedWhenAsked, opensAfterAnswer: false) { return edits }
    }
    return nil
  }

  /// Cuts the opening where it is, and writes it before the assistant's words and at the end.
  private func moving(
    _ opening: [UInt8], _ cuts: [TemplateEdit], _ places: TemplateSource, _ isAddedWhenAsked: Bool
  ) -> [TemplateEdit]? {
    // It may stand before the assistant's words already.
    for ending in isAddedWhenAsked ? [[]] : endings(opening) {
      let edits = cuts + ending
      if isSound(edits, opening, isAddedWhenAsked, opensAfterAnswer: true) { return edits }
    }
    for output in places.outputs.prefix(Self.mostOutputs) {
      guard !cuts.contains(where: { $0.range.overlaps(output.range) }) else { continue }
      let before = TemplateEdit(
        range: output.range.lowerBound..<output.range.lowerBound,
        text: "{{\(output.takesSpaceBefore ? "-" : "") \(Self.string(opening)) }}")
      for ending in isAddedWhenAsked ? [[]] : endings(opening) {
        let edits = (cuts + [before] + ending).sorted { $0.range.lowerBound < $1.range.lowerBound }
        if isSound(edits, opening, isAddedWhenAsked, opensAfterAnswer: true) { return edits }
      }
    }
    return nil
  }

  /// Leaves the opening where it is, and writes it only within a conversation or on request.
  private func guarding(_ literal: TemplateSource.Literal, _ opening: [UInt8]) -> [TemplateEdit]? {
    guard let cut = literal.range(ofLast: opening.count) else { return nil }
    let condition = "not loop.last or add_generation_prompt"
    guard literal.quote != nil else {
      return [
        TemplateEdit(range: cut.lowerBound..<cut.lowerBound, text: "{% if \(condition) %}"),
        TemplateEdit(range: cut.upperBound..<cut.upperBound, text: "{% endif %}"),
      ]
    }
    let end = literal.range.upperBound
    return [
      TemplateEdit(range: literal.range.lowerBound..<literal.range.lowerBound, text: "("),
      TemplateEdit(range: cut, text: ""),
      TemplateEdit(range: end..<end, text: " + (\(Self.string(opening)) if \(condition) else ''))"),
    ]
  }

  // MARK: A request that is ignored

  /// Edits after which the template writes `header` at the end on request.
  func adding(_ header: [UInt8]) -> [TemplateEdit]? {
    for ending in endings(header) {
      guard let edited = edited(ending) else { continue }
      let isSound = (Self.questions + Self.answers).allSatisfy { turns in
        let text = probe.render(turns)
        return edited.render(turns) == text && edited.render(turns, prompt: true) == text.map { $0 + header }
      }
      if isSound { return ending }
    }
    return nil
  }

  // MARK: Parts

  /// Ways to write a text at the end of the template on request.
  private func endings(_ text: [UInt8]) -> [[TemplateEdit]] {
    let statement = "{% if add_generation_prompt %}{{ \(Self.string(text)) }}{% endif %}"
    let end = source.utf8.count
    var ends = [end]
    // Jinja drops one line end at the end of a template.
    if source.utf8.last == 0x0A { ends.insert(end - 1, at: 0) }
    return ends.map { [TemplateEdit(range: $0..<$0, text: statement)] }
  }

  /// A text as a string of Jinja.
  private static func string(_ text: [UInt8]) -> String {
    var result = "'"
    for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
      switch scalar {
      case "'": result += "\\'"
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "'"
  }

  private func edited(_ edits: [TemplateEdit]) -> TemplateProbe? {
    guard let template = try? ChatTemplate(source: TemplateEdit.apply(edits, to: source)) else { return nil }
    return TemplateProbe(template: template, variables: probe.variables)
  }

  /// Whether an edited template writes all that it wrote, and the opening at the end only on request.
  private func isSound(
    _ edits: [TemplateEdit], _ opening: [UInt8], _ isAddedWhenAsked: Bool, opensAfterAnswer: Bool
  ) -> Bool {
    guard let edited = edited(edits) else { return false }
    for turns in Self.questions {
      let before = probe.render(turns)
      guard edited.render(turns, prompt: true) == before, edited.render(turns).map({ $0 + opening }) == before else {
        return false
      }
    }
    for turns in Self.answers {
      let before = probe.render(turns)
      guard edited.render(turns) == before else { return false }
      let asked = edited.render(turns, prompt: true)
      guard asked == before.map({ $0 + opening }) || (!opensAfterAnswer && asked == before) else { return false }
    }
    return true
  }
}
