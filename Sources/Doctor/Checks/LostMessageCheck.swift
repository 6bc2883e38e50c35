import Tokenization

/// Templates that leave out what somebody said.
enum LostMessageCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    guard let (template, probe) = plan.template(of: patient) else { return [] }
    var lost: [(role: String, turns: [TemplateProbe.Turn])] = []
    func look(_ turns: [TemplateProbe.Turn], for roles: Set<String>) {
      guard let text = probe.render(turns) else { return }
      for turn in turns where roles.contains(turn.role) && !turn.words.isEmpty && find(turn.words.utf8, in: text) == nil
      {
        if !lost.contains(where: { $0.role == turn.role }) { lost.append((turn.role, turns)) }
      }
    }
    let plain: [TemplateProbe.Turn] = [.user(1), .assistant(1), .user(2), .assistant(2)]
    look([.user(1)], for: ["user"])
    look(plain, for: ["user", "assistant"])
    look([.system] + plain, for: ["system"])
    // A template that never speaks of tools promises nothing about them.
    if find("tool".utf8, in: Array(template.source.utf8)) != nil {
      look([.user(1), .call, .tool, .assistant(1)], for: ["tool"])
    }
    return lost.map { role, turns in
      let roles = turns.map(\.role).joined(separator: ", ")
      return Finding(
        "template-loses-message", role == "user" || role == "assistant" ? .error : .warning,
        "The chat template leaves out what the \(role == "tool" ? "tool says" : "\(role) message says"), without an "
          + "error: the model never reads it, in training or in use.",
        evidence: "\(template.place.description): of the messages \(roles) the words of \(role) are missing",
        repair: "Write the content of \(role) messages in the template, or give the model none.")
    }
  }
}
