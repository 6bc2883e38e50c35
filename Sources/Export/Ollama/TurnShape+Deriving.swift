import JSONValues
import Tokenization

extension TurnShape {
  /// Why a template has no such shape, in words that complete "the chat template …".
  struct Inexpressible: Error {
    let reason: String
  }

  /// Finds the shape of a tokenizer's template by rendering conversations, and proves it on others.
  ///
  /// - Parameter leavesOutBOS: Whether a BOS at the start is left to the program that reads the text.
  init(of tokenizer: Tokenizer, leavesOutBOS: Bool) throws {
    guard let template = tokenizer.chatTemplate else { throw Inexpressible(reason: "is missing") }
    let prober = Prober(tokenizer: tokenizer, leavesOutBOS: leavesOutBOS)
    try findTurns(prober)
    try findSystem(prober)
    try prove(prober)
    trimsContent = !Self.holds(self, prober, Self.padded)
    knowsTools =
      tokenizer.toolChatTemplate != nil || prober.render([Self.userOne], tools: Self.tool) != render([Self.userOne])
    if template.source.contains("strftime_now") {
      throw Inexpressible(reason: "writes the date of the day, which Ollama's language cannot")
    }
  }

  // MARK: Conversations

  private static let systemOne = Message(role: "system", content: "Zq7sys")
  private static let userOne = Message(role: "user", content: "Zq7usra")
  private static let userTwo = Message(role: "user", content: "Zq7usrb")
  private static let userThree = Message(role: "user", content: "Zq7usrc")
  private static let answerOne = Message(role: "assistant", content: "Zq7asta")
  private static let answerTwo = Message(role: "assistant", content: "Zq7astb")
  private static let padded = Message(role: "user", content: " Zq7 padded\n ")
  private static let tool: JSONValue = [
    [
      "type": "function",
      "function": [
        "name": "zq7_tool", "description": "A tool.",
        "parameters": ["type": "object", "properties": JSONValue.object([:])],
      ],
    ]
  ]

  /// The conversations on which a shape is proved: with and without a system message, ended by either side.
  static let proofs: [[Message]] = {
    let words = ["Hello, who are you?", "Say \"{{ no }}\"\nin two lines: é 中", "x", "1 < 2 & 3 > 2\n\n    indented"]
    var conversations: [[Message]] = []
    for count in 1...6 {
      let turns = (0..<count).map { index in
        Message(role: index % 2 == 0 ? "user" : "assistant", content: words[index % words.count] + " \(index)")
      }
      conversations.append(turns)
      conversations.append([Message(role: "system", content: "You are terse.\nVery.")] + turns)
    }
    return conversations
  }()

  private struct Prober {
    let tokenizer: Tokenizer
    let leavesOutBOS: Bool

    /// A conversation, ready for an answer after the user's words, and in the midst of one after the assistant's.
    func render(
      _ messages: [Message], isOpen: Bool? = nil, tools: JSONValue? = nil
    ) -> String? {
      let list = JSONValue.array(messages.map { ["role": .string($0.role), "content": .string($0.content)] })
      let endsWithAnswer = messages.last?.role == "assistant"
      let text = try? tokenizer.renderConversation(
        list, tools: tools, addGenerationPrompt: isOpen ?? !endsWithAnswer,
        continuesFinalMessage: isOpen == nil && endsWithAnswer)
      guard leavesOutBOS, let bos = tokenizer.bosTokenID.flatMap(tokenizer.token), let text, text.hasPrefix(bos) else {
        return text
      }
      return String(text.dropFirst(bos.count))
    }

    /// What stands around the words of messages, where each appears once and in this order.
    func pieces(_ text: String?, _ messages: [Message]) -> [String]? {
      guard var rest = text.map({ $0[...] }) else { return nil }
      var pieces: [String] = []
      for message in messages {
        guard let range = rest.firstRange(of: message.content) else { return nil }
        pieces.append(String(rest[..<range.lowerBound]))
        rest = rest[range.upperBound...]
      }
      pieces.append(String(rest))
      return messages.contains { message in pieces.contains { $0.contains(message.content) } } ? nil : pieces
    }

    /// What texts start with in common, no token of the tokenizer's cut in two.
    func commonStart(_ texts: [String]) -> String {
      guard let first = texts.first else { return "" }
      var count = first.unicodeScalars.count
      for text in texts.dropFirst() {
        count = min(count, zip(first.unicodeScalars, text.unicodeScalars).prefix { $0 == $1 }.count)
      }
      var cut = first.unicodeScalars.index(first.unicodeScalars.startIndex, offsetBy: count)
      for text in texts {
        for token in tokenizer.addedTokens where !token.content.isEmpty {
          for range in text.ranges(of: token.content) {
            let start = text.unicodeScalars.distance(from: text.startIndex, to: range.lowerBound)
            let end = text.unicodeScalars.distance(from: text.startIndex, to: range.upperBound)
            if start < count, count < end {
              count = start
              cut = first.unicodeScalars.index(first.unicodeScalars.startIndex, offsetBy: count)
            }
          }
        }
      }
      return String(first.unicodeScalars[..<cut])
    }
  }

  // MARK: Turns

  private mutating func findTurns(_ prober: Prober) throws {
    let long = [Self.userOne, Self.answerOne, Self.userTwo, Self.answerTwo, Self.userThree]
    guard let pieces = prober.pieces(prober.render(long), long) else {
      throw Inexpressible(reason: "refuses or rewrites a plain conversation")
    }
    guard pieces[1] == pieces[3], pieces[2] == pieces[4] else {
      throw Inexpressible(reason: "writes the turns of one conversation differently")
    }
    let (toAnswer, toUser, toGeneration) = (pieces[1], pieces[2], pieces[5])
    let ended = [Self.userOne, Self.answerOne]
    let answerEnd = prober.pieces(prober.render(ended, isOpen: false), ended)?[2]
    let userEnd = prober.pieces(prober.render([Self.userOne], isOpen: false), [Self.userOne])?[1]
    assistant.after = prober.commonStart([toUser] + [answerEnd].compactMap { $0 })
    user.after = prober.commonStart([toAnswer, toGeneration] + [userEnd].compactMap { $0 })
    user.before = String(toUser.dropFirst(assistant.after.count))
    assistant.before = String(toAnswer.dropFirst(user.after.count))
    generation = String(toGeneration.dropFirst(user.after.count))
    if let begun = prober.pieces(prober.render(ended), ended), begun[1].hasPrefix(user.after) {
      let before = String(begun[1].dropFirst(user.after.count))
      if before != assistant.before { begunAnswer = before }
    }
    if pieces[0].hasSuffix(user.before) {
      opening = String(pieces[0].dropLast(user.before.count))
    } else {
      firstUser = pieces[0]
    }
  }

  // MARK: The system message

  private mutating func findSystem(_ prober: Prober) throws {
    let messages = [Self.systemOne, Self.userOne, Self.answerOne, Self.userTwo]
    let text = prober.render(messages)
    if let pieces = prober.pieces(text, messages) {
      if pieces[1].hasSuffix(user.before) {
        // Without anything before the user's words, a turn of its own is told by what is not there without it.
        system.after = String(pieces[1].dropLast(user.before.count))
        systemPlace = .turn(atStart: pieces[0])
        if pieces[0].hasPrefix(opening) {
          system.before = String(pieces[0].dropFirst(opening.count))
        } else {
          system.before = pieces[0]
          findDefault(start: pieces[0])
        }
      } else {
        let first = firstUser ?? opening + user.before
        guard pieces[0].hasPrefix(first) else {
          throw Inexpressible(reason: "puts the system message where Ollama's language cannot")
        }
        systemPlace = .firstUser
        firstUser = first
        opening = ""
        system = Frame(before: String(pieces[0].dropFirst(first.count)), after: pieces[1])
      }
    } else if let pieces = prober.pieces(text, [Self.userOne, Self.answerOne, Self.systemOne, Self.userTwo]) {
      let between = assistant.after + user.before
      guard pieces[2].hasPrefix(between) else {
        throw Inexpressible(reason: "puts the system message where Ollama's language cannot")
      }
      systemPlace = .lastUser
      firstUser = firstUser ?? opening + user.before
      opening = ""
      system = Frame(before: String(pieces[2].dropFirst(between.count)), after: pieces[3])
    }
  }

  /// The system message that stands in an opening, between what is around any.
  private mutating func findDefault(start: String) {
    guard opening.hasPrefix(start), opening.hasSuffix(system.after),
      opening.count >= start.count + system.after.count
    else { return }
    defaultSystem = String(opening.dropFirst(start.count).dropLast(system.after.count))
  }

  // MARK: Proof

  private static func holds(_ shape: TurnShape, _ prober: Prober, _ message: Message) -> Bool {
    prober.render([message]) == shape.render([message])
  }

  /// What templates do not accept proves nothing; what they write must be what the shape writes.
  private func prove(_ prober: Prober) throws {
    for conversation in Self.proofs {
      if conversation[0].role == "system", systemPlace == .nowhere { continue }
      guard let text = prober.render(conversation) else { continue }
      guard text == render(conversation) else {
        throw Inexpressible(reason: "does more than to put fixed texts around the words of each message")
      }
    }
  }
}
