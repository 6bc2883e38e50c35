import JSONValues
import Tokenization

extension Tokenizer {
  /// What tells this tokenizer apart from others: its tokens, its templates, and what becomes of texts that use all of
  /// them, which depends on its merges and on every step before them.
  var fingerprint: [UInt8]? {
    var hash = ContentHash()
    var texts = ""
    for id in 0..<Int32(clamping: vocabularySize) {
      let token = token(id) ?? ""
      hash.update(token)
      hash.update([isSpecial(id) ? 1 : 0])
      texts += decode([id])
      texts += id % 3 == 0 ? " " : id % 3 == 1 ? "\n" : ""
    }
    texts += "\tI'll  HAVE 12345,67 §§ naïve\u{301} ﬁ Ⅷ 日本語テキスト 🙂🙂\r\n\n  end "
    for ids in [encode(texts), encode(texts, addSpecialTokens: false, parseSpecialTokens: false)] {
      ids.withUnsafeBytes { hash.update($0) }
    }
    for (name, content) in specialTokens { hash.update("\(name)=\(content)") }
    for id in endOfTurnTokenIDs { hash.update("\(id)") }
    hash.update(chatTemplate?.source ?? "")
    let probe: JSONValue = [
      ["role": "user", "content": "a"], ["role": "assistant", "content": "b"],
    ]
    let tools: JSONValue = [["type": "function", "function": ["name": "f", "parameters": ["type": "object"]]]]
    for tools in [nil, tools] {
      let masked = try? encodeConversation(probe, tools: tools)
      hash.update("\(masked?.ids ?? []) \(masked?.isResponse ?? [])")
    }
    return hash.value()
  }
}
