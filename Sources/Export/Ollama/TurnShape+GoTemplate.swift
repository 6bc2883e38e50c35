extension TurnShape {
  /// The shape in the language of Ollama's `TEMPLATE`, which is Go's `text/template`.
  ///
  /// No trim markers: every character outside of braces is text.
  var goTemplate: String {
    var text = "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
    if !opening.isEmpty {
      text += #"{{ if and (eq $i 0) (ne .Role "system") }}\#(Self.literal(opening)){{ end }}"#
    }
    text += #"{{ if eq .Role "user" }}"#
    text += isFirst + (holdsSystem ?? "")
    text += "{{ .Content }}\(Self.literal(user.after))"
    if !generation.isEmpty { text += "{{ if $last }}\(Self.literal(generation)){{ end }}" }
    if case .turn(let atStart) = systemPlace {
      let before =
        atStart == system.before
        ? Self.literal(atStart)
        : "{{ if $i }}\(Self.literal(system.before)){{ else }}\(Self.literal(atStart)){{ end }}"
      text += #"{{ else if eq .Role "system" }}\#(before){{ .Content }}\#(Self.literal(system.after))"#
    }
    text += #"{{ else if eq .Role "assistant" }}"#
    if let begunAnswer, begunAnswer != assistant.before {
      text += "{{ if $last }}\(Self.literal(begunAnswer)){{ else }}\(Self.literal(assistant.before)){{ end }}"
    } else {
      text += Self.literal(assistant.before)
    }
    text += "{{ .Content }}"
    if !assistant.after.isEmpty { text += "{{ if not $last }}\(Self.literal(assistant.after)){{ end }}" }
    return text + "{{ end }}{{ end }}"
  }

  /// What stands before a user's words, which may be otherwise at the start of a conversation.
  private var isFirst: String {
    guard let firstUser, firstUser != user.before else { return Self.literal(user.before) }
    // A system message counts as the first, if there is one.
    return "{{ if or (eq $i 0) (and (eq $i 1) $.System) }}\(Self.literal(firstUser)){{ else }}"
      + "\(Self.literal(user.before)){{ end }}"
  }

  /// The system message in a user's turn.
  private var holdsSystem: String? {
    let words = "\(Self.literal(system.before)){{ $.System }}\(Self.literal(system.after)){{ end }}"
    switch systemPlace {
    case .firstUser: return "{{ if and (eq $i 1) $.System }}\(words)"
    case .lastUser: return "{{ if and $last $.System }}\(words)"
    default: return nil
    }
  }

  /// A text as it stands between actions: braces that could open one are made by one.
  private static func literal(_ text: String) -> String {
    guard text.contains("{{") || text.hasSuffix("{") else { return text }
    return text.replacing("{", with: #"{{ "{" }}"#)
  }
}
