import JSONValues
import Tokenization

/// Templates of which no word of the assistant's can be found again, so that there is nothing to learn.
enum LabelCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    guard let tokenizer = patient.tokenizer, tokenizer.chatTemplate != nil,
      let (template, _) = plan.template(of: patient)
    else { return [] }
    let turns: [TemplateProbe.Turn] = [.user(1), .assistant(1)]
    guard let masked = try? tokenizer.encodeConversation(.array(turns.map(\.message))) else { return [] }
    guard let last = masked.isResponse.lastIndex(of: true) else {
      return [
        Finding(
          "labels-all-masked", .error,
          "No token of a conversation is the assistant's, so that training on responses has nothing to learn.",
          evidence:
            "\(template.place.description): of \(masked.ids.count) tokens of a question and a reply 0 are trained",
          repair: "Write the assistant's words in the template, within {% generation %} where it has such blocks.")
      ]
    }
    guard let end = plan.turnEnd?.id, masked.ids.contains(where: { Int($0) == end }),
      !zip(masked.ids, masked.isResponse).contains(where: { Int($0) == end && $1 })
    else { return [] }
    return [
      Finding(
        "turn-end-masked", .warning,
        "The token that ends the assistant's turn is not among what is trained, so that a tuned model does not learn to "
          + "stop.",
        evidence: "\(template.place.description): the last trained token is "
          + "\(tokenizer.token(masked.ids[last]).map { shown($0) } ?? "unknown"), the turn ends with "
          + (plan.turnEnd?.description ?? ""),
        repair: "Write the end of the turn within {% generation %} in the template.")
    ]
  }
}
