import CUDAEmulator
import JSONValues
import ModelFiles
import Tensors
import TestSupport
import Testing

@testable import CUDADevice
@testable import Models

#if canImport(Glibc)
  import Glibc
#endif

extension EmulatedDeviceTests {
  /// Steps of several sequences side by side, recorded and run again, against the same tokens read as prompts.
  @Suite struct DecodingTests {
    struct Example: Sendable, CustomStringConvertible {
      var description: String
      var config: JSONObject
      var usesDoRA = false
      var isNF4 = true
    }

    private static let base: JSONObject = [
      "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
      "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": false, "max_position_embeddings": 512,
    ]
    private static func with(_ changes: JSONObject) -> JSONObject {
      var config = base
      for (key, value) in changes { config[key] = value }
      return config
    }
    static let examples = [
      Example(description: "Llama", config: base),
      Example(description: "bf16, tied head", config: with(["tie_word_embeddings": true]), isNF4: false),
      Example(
        description: "biases",
        config: with(["architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 2])),
      Example(
        description: "norms of heads, DoRA",
        config: with([
          "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 96, "num_attention_heads": 3,
        ]), usesDoRA: true),
      Example(
        description: "sliding window, wide heads",
        config: with([
          "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 70, "head_dim": 128,
          "num_attention_heads": 2, "num_key_value_heads": 2,
        ])),
      Example(
        description: "part of each head turns, nine query heads to a key head",
        config: with([
          "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "partial_rotary_factor": 0.75, "head_dim": 64,
          "num_attention_heads": 9,
        ])),
      Example(
        description: "a layer without rotation, products too odd for the kernels of few rows",
        config: with([
          "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "no_rope_layers": [1, 0],
          "intermediate_size": 72,
        ])),
    ]

    private func model(_ example: Example, _ folder: TemporaryFolder, _ kernels: TemporaryFolder) throws
      -> LanguageModel
    {
      try TinyModel(changing: example.config, seed: 5).write(to: folder)
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      let model = try LanguageModel(
        Checkpoint.open(path: folder.path), on: device,
        storage: example.isNF4 ? .nf4(resident: false) : .operands)
      let adapter = try model.makeAdapter(
        LoRAConfiguration(rank: 4, alpha: 8, useDoRA: example.usesDoRA), training: false)
      var random = SeededRandom(seed: 9)
      var values = try adapter.values()
      for index in values.indices { values[index] += Float.random(in: -0.05...0.05, using: &random) }
      try adapter.set(values)
      model.attach(adapter)
      return model
    }

    private func difference(_ a: [Float], _ b: [Float]) -> Double {
      var (error, norm) = (0.0, 0.0)
      for (x, y) in zip(a, b) {
        error += Double(x - y) * Double(x - y)
        norm += Double(y) * Double(y)
      }
      return a.count == b.count ? (error / norm).squareRoot() : .nan
    }

    @Test(arguments: examples) func stepsGoOnAsPromptsDo(_ example: Example) throws {
      let (folder, kernels) = (try TemporaryFolder(), try TemporaryFolder())
      let model = try model(example, folder, kernels)
      let device = model.device
      let vocabulary = model.configuration.vocabularySize
      var random = SeededRandom(seed: 3)
      // One begins within a page, one crosses into the next, one has several.
      var sequences: [DecodingSequence] = []
      var texts: [[Int32]] = []
      for length in [3, 62, 130] {
        let prompt = (0..<length).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) }
        sequences.append(
          try model.begin(
            model.makeCache(capacity: length + 8), with: prompt, SamplingOptions(), seen: prompt,
            plannedLength: length + 8))
        texts.append(prompt)
      }
      for step in 0..<7 {
        for index in sequences.indices { texts[index].append(try #require(sequences[index].last)) }
        // The batch shrinks and grows again: other shapes, recorded and not.
        let active = step == 4 ? [0, 1] : [0, 1, 2]
        for index in sequences.indices where !active.contains(index) { texts[index].removeLast() }
        try model.step(active.map { sequences[$0] })
        let room = try model.inferenceRoom(rows: active.count)
        for (row, index) in active.enumerated() where [0, 3, 4, 6].contains(step) {
          let logits = try device.floats(room.logits.rows(row..<row + 1))
          let expected = try model.extend(model.makeCache(capacity: 220), with: texts[index])
          #expect(difference(logits, expected) < 0.03, "\(example), step \(step), sequence \(index)")
          #expect(sequences[index].cache.length == texts[index].count)
          let best = try #require(logits.max())
          #expect(sequences[index].last == logits.firstIndex(of: best).map { Int32($0) })
        }
      }
      let recordings = try #require(model.decoding?.recordings)
      #expect(!recordings.isEmpty, "\(example): no step was recorded")
    }

    @Test func pagesGoBackAndAreCounted() throws {
      let (folder, kernels) = (try TemporaryFolder(), try TemporaryFolder())
      let model = try model(Self.examples[0], folder, kernels)
      let device = try #require(model.device as? CUDADevice)
      func read(_ count: Int) throws -> DecodingSequence {
        let tokens = [Int32](repeating: 1, count: count)
        return try model.begin(model.makeCache(capacity: 400), with: tokens, SamplingOptions(), seen: tokens)
      }
      _ = try read(400)
      let before = device.allocatedBytes
      let page = 2 * 2 * 64 * 16 * 2
      do {
        let sequence = try read(130)
        #expect(device.allocatedBytes - before >= 3 * page)
        sequence.cache.truncate(to: 10)
        let shorter = try read(100)
        #expect(device.allocatedBytes - before < 4 * page + 1024, "pages that were given back are taken again")
        withExtendedLifetime((sequence, shorter)) {}
      }
      // Small arrays of the host have copies that stay.
      #expect(device.allocatedBytes < before + page)
      device.limitMemory(to: device.allocatedBytes + 2 * page)
      #expect(throws: DeviceError.self) { try read(400) }
    }

    // MARK: Choosing tokens

    private func sample(
      _ device: CUDADevice, _ logits: [[Float]], _ draws: [TokenDraw], seen: inout [UInt8]
    ) throws -> [Int32] {
      let rows = logits.count
      let vocabulary = logits[0].count
      let tensor = try device.tensor(logits.flatMap(\.self), rows: rows, columns: vocabulary)
      func bytes(_ count: Int) throws -> Tensor {
        Tensor(try device.allocate(byteCount: count), rows: 1, columns: count, dtype: .uint8)
      }
      let drawn = try bytes(rows * 32)
      try draws.withUnsafeBytes { try device.upload($0, to: drawn) }
      let words = (vocabulary + 31) / 32 * 4
      let bits = try bytes(rows * words)
      try seen.withUnsafeBytes { try device.upload($0, to: bits) }
      let tokens = Tensor(try device.allocate(byteCount: rows * 4), rows: 1, columns: rows, dtype: .int32)
      try device.sample(tensor, draws: drawn, seen: bits.reshaped(rows: rows, columns: words), into: tokens)
      var result = [Int32](repeating: 0, count: rows)
      try result.withUnsafeMutableBytes { try device.download(tokens, to: $0) }
      try seen.withUnsafeMutableBytes { try device.download(bits, to: $0) }
      return result
    }

    private func draw(_ options: SamplingOptions, slot: Int, point: Double = 0) -> TokenDraw {
      TokenDraw(
        sharpness: options.temperature > 0 ? Float(1 / options.temperature) : 0, topP: Float(options.topP),
        minP: Float(options.minP), repetitionPenalty: Float(options.repetitionPenalty), topK: Int32(options.topK),
        slot: Int32(slot), point: point)
    }

    /// Where nothing is drawn, the GPU's sampler is the CPU's.
    @Test func certainChoicesAreTheCPUs() throws {
      let kernels = try TemporaryFolder()
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      var random = SeededRandom(seed: 31)
      for vocabulary in [5, 333, 3000] {
        var logits = (0..<8).map { _ in (0..<vocabulary).map { _ in Float.random(in: -9...9, using: &random) } }
        logits[1][3] = 10
        logits[1][1] = 10
        logits[2][2] = .nan
        logits[3] = logits[3].map { _ in .nan }
        logits[4][0] = .infinity
        for options in [
          SamplingOptions(), SamplingOptions(repetitionPenalty: 1.7), SamplingOptions(temperature: 1, topK: 1),
          SamplingOptions(temperature: 0.7, topP: 1e-6), SamplingOptions(temperature: 1e-4),
        ] {
          var seen = [UInt8](repeating: 0, count: 8 * ((vocabulary + 31) / 32 * 4))
          let width = seen.count / 8
          let marked = (0..<8).map { _ in
            Array(Set((0..<20).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) }))
          }
          for (row, tokens) in marked.enumerated() {
            for token in tokens { seen[row * width + Int(token) / 8] |= 1 << UInt8(token % 8) }
          }
          let found = try sample(
            device, logits, (0..<8).map { draw(options, slot: $0, point: 0.6) }, seen: &seen)
          for row in 0..<8 {
            var sampler = Sampler(options, seen: marked[row])
            let expected = sampler.next(logits[row]) ?? -1
            #expect(found[row] == expected, "\(vocabulary) logits, row \(row), \(options)")
            if options.repetitionPenalty != 1, expected >= 0 {
              #expect(seen[row * width + Int(expected) / 8] >> UInt8(expected % 8) & 1 == 1)
            }
          }
        }
      }
    }

    /// Draws fall on tokens as often as their probabilities say, those left out never: Pearson's χ² against the definition.
    @Test(arguments: [
      SamplingOptions(temperature: 1), SamplingOptions(temperature: 0.8, topK: 7),
      SamplingOptions(temperature: 1.3, topP: 0.8), SamplingOptions(temperature: 1, minP: 0.1),
      SamplingOptions(temperature: 0.9, topP: 0.9, topK: 20, minP: 0.02),
    ])
    func drawsFollowTheProbabilities(_ options: SamplingOptions) throws {
      let kernels = try TemporaryFolder()
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      var random = SeededRandom(seed: 77)
      let vocabulary = 60
      let logits = (0..<vocabulary).map { _ in Float.random(in: -2...3, using: &random) }
      // The definition, in double precision.
      var weights = logits.map { exp((Double($0) - Double(logits.max() ?? 0)) / options.temperature) }
      weights = weights.map { $0 < options.minP ? 0 : $0 }
      var order = weights.indices.filter { weights[$0] > 0 }.sorted { weights[$0] > weights[$1] }
      if options.topK > 0 { order = Array(order.prefix(options.topK)) }
      let total = order.reduce(0) { $0 + weights[$1] }
      var (kept, sum) = ([Int](), 0.0)
      for token in order where sum < options.topP * total || kept.isEmpty {
        kept.append(token)
        sum += weights[token]
      }
      var counts = [Int](repeating: 0, count: vocabulary)
      let (rows, rounds) = (64, 40)
      var source = RandomSource(seed: 5)
      for _ in 0..<rounds {
        var seen = [UInt8](repeating: 0, count: rows * 8)
        let draws = (0..<rows).map { draw(options, slot: $0, point: source.uniform()) }
        for token in try sample(device, [[Float]](repeating: logits, count: rows), draws, seen: &seen) {
          counts[Int(token)] += 1
        }
      }
      let draws = Double(rows * rounds)
      var chiSquare = 0.0
      for token in kept {
        let expected = draws * weights[token] / sum
        chiSquare += (Double(counts[token]) - expected) * (Double(counts[token]) - expected) / expected
      }
      #expect(kept.reduce(0) { $0 + counts[$1] } == rows * rounds, "a token that was left out was drawn")
      // Five standard deviations above its mean.
      let freedom = Double(kept.count - 1)
      #expect(chiSquare < freedom + 5 * (2 * freedom).squareRoot(), "\(options): χ² \(chiSquare) of \(freedom)")
    }
  }
}
