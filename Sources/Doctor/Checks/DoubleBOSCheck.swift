import Tokenization

/// BOS twice: once from the template, once from the tokenizer.
enum DoubleBOSCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    guard let (template, probe) = plan.template(of: patient), let bos = plan.token(.bos, of: patient),
      !bos.content.isEmpty
    else { return [] }
    let mark = Array(bos.content.utf8)
    guard let text = probe.render([.user(1)], prompt: true), text.starts(with: mark) else { return [] }
    if text.dropFirst(mark.count).starts(with: mark) {
      return [
        Finding(
          "double-bos", .error,
          "The chat template begins every conversation with BOS twice, which the model has never seen.",
          evidence: "\(template.place.description) begins with \(shown(text, limit: 40))",
          repair: "Write BOS once in the template.")
      ]
    }
    guard patient.addsBOS else { return [] }
    return [
      Finding(
        "double-bos", .warning,
        "The chat template writes BOS and the tokenizer puts one before every text: who encodes the rendered text with "
          + "special tokens gets two, which the model has never seen.",
        evidence: "\(template.place.description) begins with \(bos.description), and so does every encoded text",
        repair: "Encode rendered conversations without special tokens (add_special_tokens=False), as Swiftlet does; or "
          + "take BOS out of one of the two.")
    ]
  }
}
