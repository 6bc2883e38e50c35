import Foundation
import Models
import Testing
import Training

@testable import Swiftlet

private let sampleModel = ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"] ?? ""

/// Several prompts side by side on the sample model.
@Suite(.serialized, .enabled(if: !sampleModel.isEmpty, "SWIFTLET_SAMPLE_MODEL is not set; script/test sets it"))
struct BatchGenerationTests {
  private static let questions = [
    "What is the capital of France?", "Name three colours.", "Say hello.", "How many legs has a spider, and why?",
    "Write one word.",
  ]

  /// Prompts come in as others end, and every answer is the one that the prompt gets alone.
  @Test(
    arguments: [
      SamplingOptions(), SamplingOptions(temperature: 0.8, topP: 0.9, repetitionPenalty: 1.1, seed: 11),
    ], [(TrainingConfiguration.Compute.fp32, TrainingConfiguration.Quantization.none), (.auto, .none), (.auto, .nf4)])
  func answersAreThoseOfEachAlone(
    _ sampling: SamplingOptions,
    _ kept: (compute: TrainingConfiguration.Compute, quantization: TrainingConfiguration.Quantization)
  ) throws {
    var load = LoadOptions(device: .cpu, compute: kept.compute)
    load.quantization = kept.quantization
    let model = try Model.load(sampleModel, options: load)
    let options = GenerationOptions(maxTokens: 10, sampling: sampling, stop: [","])
    let prompts = Self.questions.map { Prompt.user($0) }
    var streamed = [String](repeating: "", count: prompts.count)
    let answers = try model.generate(prompts, options: options, batchSize: 2) { index, text in
      streamed[index] += text
      return true
    }
    #expect(answers.count == prompts.count)
    for (index, answer) in answers.enumerated() {
      let alone = try model.generate(prompts[index], options: options)
      #expect(answer.tokens == alone.tokens && answer.text == alone.text, "\(Self.questions[index])")
      #expect(answer.finishReason == alone.finishReason && answer.promptTokens == alone.promptTokens)
      #expect(streamed[index] == answer.text)
    }
  }

  @Test func allEndWhereNoTokenIsWanted() throws {
    let model = try Model.load(sampleModel)
    var asked = 0
    let answers = try model.generate(
      Self.questions.map { .user($0) }, options: GenerationOptions(maxTokens: 6), batchSize: 2,
      onToken: {
        asked += 1
        return asked < 4
      })
    // The two that had begun, and none after them.
    #expect(answers.map(\.finishReason) == [.cancelled, .cancelled] && answers.map(\.tokens.count) == [2, 2])
  }

  @Test func oneMayEndWhileOthersGoOn() throws {
    let model = try Model.load(sampleModel)
    let answers = try model.generate(
      Self.questions.map { .user($0) }, options: GenerationOptions(maxTokens: 6), batchSize: 5
    ) { index, _ in index != 1 }
    #expect(answers[1].finishReason == .cancelled && answers[1].tokens.count == 1)
    #expect(answers.indices.allSatisfy { $0 == 1 || answers[$0].finishReason != .cancelled })
    #expect(throws: ModelError.self) { try model.generate([.user("x"), .text("")], batchSize: 2) }
    #expect(throws: ModelError.self) { try model.generate([.user("x")], batchSize: 65) }
  }
}
