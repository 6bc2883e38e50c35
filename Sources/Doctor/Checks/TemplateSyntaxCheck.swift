import Tokenization

/// Templates that cannot be read, or that refuse the plainest conversation.
enum TemplateSyntaxCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    patient.templates.flatMap { template in
      switch template.parsed {
      case .failure(let error): return [broken(template, error)]
      case .success(let parsed):
        guard template.name == "default" else { return [] }
        let findings = refusal(template, parsed, patient)
        plan.isTemplateRefusing = !findings.isEmpty
        return findings
      }
    }
  }

  private static func broken(_ template: Patient.Template, _ error: TemplateError) -> Finding {
    Finding(
      "template-does-not-parse", .error,
      "The chat template is no valid Jinja, so that no conversation can be laid out for training or generation.",
      evidence: "\(template.place.description): \(error)", repair: "Mend the template at that place.")
  }

  private static func refusal(
    _ template: Patient.Template, _ parsed: ChatTemplate, _ patient: Patient
  ) -> [Finding] {
    let probe = TemplateProbe(template: parsed, variables: patient.templateVariables())
    do throws(TemplateError) {
      _ = try probe.text([.user(1), .assistant(1), .user(2)])
      return []
    } catch {
      // A template may ask for a system message.
      if probe.render([.system, .user(1), .assistant(1), .user(2)]) != nil { return [] }
      return [
        Finding(
          "template-fails", .error,
          "The chat template refuses a plain conversation of user and assistant, so that none can be laid out.",
          evidence: "\(template.place.description): \(error)", repair: "Mend the template at that place.")
      ]
    }
  }
}
