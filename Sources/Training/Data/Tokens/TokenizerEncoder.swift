import Glibc
import JSONValues
import Tokenization

/// A model's tokenizer as datasets use it.
///
/// Data is never read as control: a sample that spells a special token gets its letters, unless `parsesSpecialTokens`.
struct TokenizerEncoder: ExampleEncoder {
  let tokenizer: Tokenizer
  var parsesSpecialTokens = false

  var endOfText: Int32? { tokenizer.eosTokenID }

  var hasChatTemplate: Bool { tokenizer.chatTemplate != nil }

  var fingerprint: [UInt8]? { tokenizer.fingerprint.map { $0 + [parsesSpecialTokens ? 1 : 0] } }

  func tokens(of text: String, opens: Bool) -> [Int32] {
    tokenizer.encode(text, addSpecialTokens: opens, parseSpecialTokens: parsesSpecialTokens)
  }

  func specialToken(spelledIn text: String) -> String? {
    parsesSpecialTokens ? nil : tokenizer.specialTokens(spelledIn: text).first?.token
  }

  func tokens(of messages: JSONValue, tools: JSONValue?) throws -> ConversationTokens {
    let masked = try tokenizer.encodeConversation(messages, tools: tools, parseSpecialTokens: parsesSpecialTokens)
    var remarks: [DataRemark.Kind] = []
    for (index, message) in (messages.array ?? []).enumerated() {
      guard let role = message["role"]?.string else { continue }
      if masked.losses.contains(where: { $0.message == index }) || isLost(message, in: masked.text) {
        let kind = DataRemark.Kind.lostMessage(role: role)
        if !remarks.contains(kind) { remarks.append(kind) }
      }
    }
    if !parsesSpecialTokens, let found = tokenizer.firstSpecialToken(spelledIn: messages) {
      remarks.append(.specialToken(found.token))
    }
    return ConversationTokens(ids: masked.ids, isResponse: masked.isResponse, remarks: remarks)
  }

  /// Whether the longest word of a message is not in the text; templates trim, escape and wrap, but leave words whole.
  private func isLost(_ message: JSONValue, in text: String) -> Bool {
    // The assistant's are judged more exactly where they are masked.
    guard message["role"]?.string != "assistant", let content = message["content"]?.string else { return false }
    var words: [ArraySlice<UInt8>] = []
    let bytes = Array(content.utf8.suffix(400))
    for word in bytes.split(whereSeparator: { !isWordByte($0) }) where word.count > 2 { words.append(word) }
    guard let longest = words.max(by: { $0.count < $1.count }) else { return false }
    var text = text
    return text.withUTF8 { text in
      longest.withUnsafeBytes { !contains(UnsafeRawBufferPointer(text), $0) }
    }
  }

  private func contains(_ text: UnsafeRawBufferPointer, _ word: UnsafeRawBufferPointer) -> Bool {
    guard let base = text.baseAddress, let first = word.first, let letters = word.baseAddress else { return true }
    var place = 0
    while place + word.count <= text.count {
      guard let found = memchr(base + place, Int32(first), text.count - word.count - place + 1) else { return false }
      if memcmp(found, letters, word.count) == 0 { return true }
      place = UnsafeRawPointer(found) - base + 1
    }
    return false
  }

  private func isWordByte(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
  }
}
