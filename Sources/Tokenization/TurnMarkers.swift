import JSONValues

/// What a template puts at the end of the assistant's turn, found by rendering a small conversation.
enum TurnMarkers {
  private static let question = "Zq7 question"
  private static let reply = "Zq7 reply"

  private static func render(
    _ template: ChatTemplate, _ turns: [(role: String, content: String)],
    _ specialTokens: [(name: String, content: String)], addGenerationPrompt: Bool = false
  ) -> [UInt8]? {
    var variables = JSONObject()
    for (name, content) in specialTokens { variables[name] = .string(content) }
    let messages = turns.map { JSONValue.object(["role": .string($0.role), "content": .string($0.content)]) }
    let text = try? template.render(.array(messages), addGenerationPrompt: addGenerationPrompt, variables: variables)
    return text.map { Array($0.utf8) }
  }

  /// Every id that ends generation: the end of a text, what the model's files add, and the end of a turn.
  static func endOfTurnTokenIDs(
    templates: ChatTemplates, specialTokens: [(name: String, content: String)], addedTokens: [AddedToken], eos: Int32?,
    more: [Int32]
  ) -> [Int32] {
    var ids: [Int32] = []
    for id in [eos].compactMap({ $0 }) + more where !ids.contains(id) { ids.append(id) }
    for (_, template) in templates.entries {
      if let id = endOfTurn(template, specialTokens, addedTokens), !ids.contains(id) { ids.append(id) }
    }
    return ids
  }

  /// The added token that follows the assistant's words, both at the end of a conversation and within one.
  private static func endOfTurn(
    _ template: ChatTemplate, _ specialTokens: [(name: String, content: String)], _ addedTokens: [AddedToken]
  ) -> Int32? {
    let turns = [("user", question), ("assistant", reply)]
    guard let short = render(template, turns, specialTokens),
      let last = after(reply, in: short)
    else { return nil }
    if let long = render(template, turns + [("user", question)], specialTokens), let middle = after(reply, in: long) {
      let common = zip(last, middle).prefix { $0 == $1 }.count
      if let id = firstToken(in: Array(last.prefix(common)), addedTokens) { return id }
    }
    return firstToken(in: Array(last), addedTokens)
  }

  private static func after(_ needle: String, in text: [UInt8]) -> ArraySlice<UInt8>? {
    let needle = Array(needle.utf8)
    return PythonText.find(needle, in: text).map { text[($0 + needle.count)...] }
  }

  private static func firstToken(in text: [UInt8], _ addedTokens: [AddedToken]) -> Int32? {
    let finder = AddedTokenFinder(addedTokens.map { ($0, Array($0.content.utf8)) })
    return text.withUnsafeBufferPointer { text in
      guard let base = text.baseAddress else { return nil }
      return finder.split(base, text.count).lazy.compactMap(\.token).first
    }
  }
}
