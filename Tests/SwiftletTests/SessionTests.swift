import Foundation
import Testing

@testable import Swiftlet

private let sampleModel = ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"] ?? ""

/// Conversations on the sample model, in one session and without any.
@Suite(.serialized, .enabled(if: !sampleModel.isEmpty, "SWIFTLET_SAMPLE_MODEL is not set; script/test sets it"))
struct SessionTests {
  /// What user and assistant said in turn.
  private func conversation(_ turns: [String]) -> Prompt {
    .messages(
      .array(
        turns.enumerated().map { index, text in
          ["role": .string(index % 2 == 0 ? "user" : "assistant"), "content": .string(text)]
        }))
  }

  /// A session reads what is new; without one everything is read anew for each answer.
  @Test func sessionsRememberWhatWasRead() throws {
    let model = try Model.load(sampleModel, options: LoadOptions(compute: .fp32))
    let options = GenerationOptions(maxTokens: 12)
    let session = GenerationSession()
    var turns: [String] = []
    for question in ["What is the capital of France?", "And of Italy?", "Which is larger?"] {
      turns.append(question)
      let answer = try model.generate(conversation(turns), options: options, session: session)
      let alone = try model.generate(conversation(turns), options: options)
      #expect(answer.tokens == alone.tokens && answer.text == alone.text)
      #expect(alone.rememberedTokens == 0)
      #expect(
        turns.count == 1 ? answer.rememberedTokens == 0 : answer.rememberedTokens > answer.promptTokens / 2)
      turns.append(answer.text)
    }
    // Another conversation in the same session.
    let other = conversation(["Name a colour."])
    let answer = try model.generate(other, options: options, session: session)
    #expect(try answer.tokens == model.generate(other, options: options).tokens)
    // The same prompt again: its last token is read for the logits.
    let again = try model.generate(other, options: options, session: session)
    #expect(again.tokens == answer.tokens && again.rememberedTokens == again.promptTokens - 1)
  }
}
