import CPUDevice
import ModelFiles
import TestSupport
import Testing

@testable import Models

/// Whole sequences, pieces and single tokens must agree with the float64 model; what cannot be read is refused.
@Suite struct InferenceTests {
  private func reference(_ test: ModelCase, _ adapter: Adapter) throws -> ReferenceModel {
    var reference = ReferenceModel(test.tiny)
    reference.set(adapter, try adapter.values().map { Double($0) })
    return reference
  }

  @Test(arguments: ModelCase.all)
  func cachedLogitsAreThoseOfTheWholeSequence(_ test: ModelCase) throws {
    // A prompt goes through in pieces of 512.
    let tokens = test.tokens(560)
    let vocabulary = test.tiny.size("vocab_size")
    for (compute, tolerance) in [(CPUDevice.Compute.float32, 1e-4), (.bfloat16, 0.15)] {
      let (model, adapter) = try test.load(compute)
      let expected = try reference(test, adapter).logits(tokens)
      let whole = try model.logits(tokens)
      #expect(relativeError(whole, expected.flatMap(\.self)) < tolerance)

      let cache = try model.makeCache(capacity: tokens.count)
      let prompt = 541
      let first = try model.extend(cache, with: Array(tokens[..<prompt]))
      #expect(relativeError(first, expected[prompt - 1]) < tolerance)
      for position in prompt..<tokens.count {
        let next = try model.extend(cache, with: [tokens[position]])
        #expect(next.count == vocabulary)
        #expect(relativeError(next, expected[position]) < tolerance, "\(test), position \(position)")
      }
      // A cache cut short goes on from there.
      cache.truncate(to: 500)
      let again = try model.extend(cache, with: Array(tokens[500..<503]))
      #expect(relativeError(again, expected[502]) < tolerance)
      // From the first token on, one by one.
      let slow = try model.makeCache(capacity: 12)
      for position in 0..<12 {
        let next = try model.extend(slow, with: [tokens[position]])
        #expect(relativeError(next, expected[position]) < tolerance, "\(test), position \(position)")
      }
    }
  }

  /// As transformers does for Phi-3: short factors up to the original length; beyond it all keys turn by long ones.
  @Test func aCacheThatCrossesTheOriginalLengthIsComputedAgain() throws {
    let test = ModelCase(
      description: "longrope",
      tiny: TinyModel(
        changing: [
          "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 32, "tie_word_embeddings": false,
          "partial_rotary_factor": 0.75, "max_position_embeddings": 64, "original_max_position_embeddings": 16,
          "rope_scaling": ["type": "longrope", "short_factor": [1.0, 1.1, 1.4], "long_factor": [1.3, 2.5, 5.0]],
        ], seed: 12), lora: LoRAConfiguration(rank: 1))
    let (model, _) = try test.load(.float32)
    let tokens = test.tokens(20)
    let vocabulary = test.tiny.size("vocab_size")
    let cache = try model.makeCache(capacity: 20)
    for count in 10...20 {
      // Planning to go on must not change what a short sequence means.
      let next = try model.extend(
        cache, with: count == 10 ? Array(tokens[..<10]) : [tokens[count - 1]], plannedLength: 20)
      let whole = try model.logits(Array(tokens[..<count])).suffix(vocabulary)
      #expect(relativeError(next, whole.map { Double($0) }) < 1e-5, "\(count) tokens")
      #expect(cache.length == count)
    }
    cache.truncate(to: 15)
    let again = try model.extend(cache, with: [tokens[15]])
    let whole = try model.logits(Array(tokens[..<16])).suffix(vocabulary)
    #expect(relativeError(again, whole.map { Double($0) }) < 1e-5, "back below the length")
  }

  @Test func numbersThatAreNoneAreRefused() throws {
    for name in ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"] {
      let folder = try TemporaryFolder()
      try TinyModel(changing: ["tie_word_embeddings": false]).write(to: folder) { if $0 == name { $1[3] = .nan } }
      let checkpoint = try Checkpoint.open(path: folder.path)
      #expect {
        let model = try LanguageModel(checkpoint, on: CPUDevice(compute: .bfloat16))
        // Rows of the embedding are looked at when they are needed.
        _ = try model.logits([0])
      } throws: {
        "\($0)".hasSuffix(
          "tensor '\(name)' holds values that are no finite numbers; the file is damaged, fetch it again")
      }
    }
  }

  @Test func documentsDoNotSeeOneAnother() throws {
    let test = ModelCase.all[0]
    let (model, _) = try test.load(.float32)
    let documents = [test.tokens(20, seed: 1), test.tokens(33, seed: 2), test.tokens(2, seed: 3)]
    var packed = PackedBatch()
    var losses: [[Float]] = []
    for document in documents {
      let mask = document.map { _ in true }
      packed.append(document, isTrained: mask)
      var alone = PackedBatch()
      alone.append(document, isTrained: mask)
      _ = try model.evaluate(alone) { losses.append(Array($0)) }
    }
    var together: [Float] = []
    _ = try model.evaluate(packed) { together += $0 }
    #expect(relativeError(together, losses.flatMap(\.self).map { Double($0) }) < 1e-6)
  }

  @Test func theBaseModelComesBackWhenTheAdapterGoes() throws {
    let test = ModelCase.all[1]
    let (model, adapter) = try test.load(.float32)
    let tokens = test.tokens(7)
    let adapted = try model.logits(tokens)
    model.attach(nil)
    #expect(relativeError(try model.logits(tokens), ReferenceModel(test.tiny).logits(tokens).flatMap(\.self)) < 1e-5)
    model.attach(adapter)
    #expect(try model.logits(tokens) == adapted)
    try adapter.initialize(seed: 3)
    #expect(
      relativeError(try model.logits(tokens), ReferenceModel(test.tiny).logits(tokens).flatMap(\.self)) < 1e-5,
      "a new adapter changes nothing")
  }

  @Test func smallestInputs() throws {
    let test = ModelCase.all[0]
    let (model, adapter) = try test.load(.float32)
    let gradients = try adapter.trainingGradients
    #expect(try model.evaluate(PackedBatch()) == 0)
    #expect(try model.forwardBackward(PackedBatch(), lossScale: 1) == 0)
    #expect(try model.device.squaredNorm(gradients) == 0)
    var single = PackedBatch()
    single.append([5], isTrained: [true])
    #expect(single.trainedTokenCount == 0)
    #expect(try model.forwardBackward(single, lossScale: 1) == 0)
    #expect(try model.device.squaredNorm(gradients) == 0)
    #expect(try relativeError(model.logits([5]), reference(test, adapter).logits([5])[0]) < 1e-5)
    #expect(try model.logits([]).isEmpty)
  }

  @Test func whatCannotBeReadIsRefused() throws {
    let (model, _) = try ModelCase.all[0].load(.float32)
    func refuses(_ line: String, _ location: SourceLocation = #_sourceLocation, _ body: () throws -> Void) {
      #expect(throws: ModelError(line), sourceLocation: location, performing: body)
    }
    for token in [24, -1, Int32.max] as [Int32] {
      let line = "token \(token) lies outside the model's vocabulary of 24"
      var batch = PackedBatch()
      batch.append([1, token, 2], isTrained: [true, true, true])
      refuses(line) { _ = try model.evaluate(batch) }
      refuses(line) { _ = try model.forwardBackward(batch, lossScale: 1) }
      refuses(line) { _ = try model.logits([1, token]) }
    }
    var target = PackedBatch()
    target.append([1, 2, 3], isTrained: [true, true, true])
    target.targets[0] = 24
    refuses("token 24 lies outside the model's vocabulary of 24") { _ = try model.evaluate(target) }
    let cache = try model.makeCache(capacity: 4)
    refuses("no tokens were given to read") { _ = try model.extend(cache, with: []) }
    refuses("5 tokens do not fit a cache for 4") { _ = try model.extend(cache, with: [1, 2, 3, 4, 5]) }
    // What was refused left nothing behind.
    #expect(cache.length == 0)
    _ = try model.extend(cache, with: [1, 2, 3, 4])
    model.attach(nil)
    refuses("nothing to train: no adapter is attached") { _ = try model.forwardBackward(target, lossScale: 1) }
    refuses("an adapter needs a rank of at least 1 and at least one target module") {
      _ = try model.makeAdapter(LoRAConfiguration(rank: 0), training: true)
    }
  }

  @Test func missingAndMisshapenTensorsAreNamed() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: ["intermediate_size": 32]).write(to: folder)
    var config = TinyModel().config
    config["intermediate_size"] = 24
    _ = try folder.write("config.json", TinyModel(config: config, seed: 1).text)
    let misshapen = try Checkpoint.open(path: folder.path)
    #expect(
      throws: ModelError(
        "\(folder.path): tensor model.layers.0.mlp.gate_proj.weight is [32, 16], the configuration asks for [24, 16]")
    ) { _ = try LanguageModel(misshapen, on: CPUDevice(compute: .float32)) }
    _ = try folder.write("config.json", TinyModel(changing: ["intermediate_size": 32, "num_hidden_layers": 4]).text)
    let missing = try Checkpoint.open(path: folder.path)
    #expect {
      _ = try LanguageModel(missing, on: CPUDevice(compute: .float32))
    } throws: { "\($0)".contains("model.layers.3") && "\($0)".contains("is missing") }
  }
}
