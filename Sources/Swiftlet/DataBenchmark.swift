import CPUDevice
import Models
import Tokenization
import Training

/// Times what data costs: tokenizing it, laying batches out, and padding that packing saves.
package enum DataBenchmark {
  /// What was measured.
  package struct Row: Sendable {
    /// What was timed.
    package var name: String
    /// Tokens of samples that it went through; padding is none.
    package var tokens: Int
    /// Seconds that it took.
    package var seconds: Double
    /// Share of the tokens computed that were padding.
    package var paddingShare = 0.0
    /// The most memory that the process held since the row began.
    package var peakBytes: Int
    /// The gradient's norm at the last step, where there are steps.
    package var gradientNorm: Double?
    /// Tokens per second.
    package var tokensPerSecond: Double { Double(tokens) / max(seconds, 1e-9) }
  }

  /// Tokenizes a configuration's data without a cache, by `threads` threads.
  package static func tokenize(_ configuration: TrainingConfiguration, tokenizer: Tokenizer) throws -> (
    Row, TokenizedDataset
  ) {
    ProcessMemory.resetPeak()
    var configuration = configuration
    configuration.dataCache = false
    let began = MonotonicClock.now()
    let data = try TokenizedDataset.make(configuration.data, configuration, tokenizer: tokenizer).data
    let seconds = MonotonicClock.now() - began
    return (
      Row(name: "data:tokenize", tokens: data.counts.tokens, seconds: seconds, peakBytes: ProcessMemory.peakByteCount),
      data
    )
  }

  /// Lays out every batch of an epoch, its order included, by one thread.
  package static func load(_ configuration: TrainingConfiguration, _ data: TokenizedDataset) throws -> Row {
    ProcessMemory.resetPeak()
    let began = MonotonicClock.now()
    var source = BatchSource(data, options: .init(configuration))
    var tokens = 0
    for step in 0..<source.schedule.stepsPerEpoch {
      tokens += try source.microBatches(ofStep: step).reduce(0) { $0 + $1.tokens.count }
    }
    return Row(
      name: "data:load", tokens: tokens, seconds: MonotonicClock.now() - began, peakBytes: ProcessMemory.peakByteCount)
  }
}

extension DataBenchmark {
  /// Batches of samples filled up to the longest of each with tokens that are not trained: what trainers do that do not pack.
  package static func padded(_ data: TokenizedDataset, batchSize: Int, count: Int) throws -> [PackedBatch] {
    let schedule = BatchSchedule(lengths: data.lengths, options: .init(batchSize: batchSize))
    return try schedule.epoch(0).microBatches.prefix(count).map { examples in
      let documents = try examples.map { try data.tokens(ofExample: $0) }
      let longest = documents.map(\.ids.count).max() ?? 0
      var batch = PackedBatch()
      for (ids, isTrained) in documents {
        let padding = longest - ids.count
        batch.append(
          ids + [Int32](repeating: 0, count: padding), isTrained: isTrained + [Bool](repeating: false, count: padding))
      }
      return batch
    }
  }

  /// Batches of so many tokens, filled with whole samples.
  package static func packed(_ data: TokenizedDataset, tokens: Int, count: Int) throws -> [PackedBatch] {
    let schedule = BatchSchedule(lengths: data.lengths, options: .init(batchTokens: tokens))
    return try schedule.epoch(0).microBatches.prefix(count).map { try data.batch(of: $0) }
  }

  /// Tokens of samples in padded batches, or in others: what is behind the last trained token of a document is padding.
  package static func sampleTokens(_ batch: PackedBatch) -> Int {
    batch.documents.reduce(0) { sum, document in
      let last = document.last { batch.targets[$0] >= 0 } ?? document.lowerBound
      return sum + min(document.count, last - document.lowerBound + 2)
    }
  }
}

extension Benchmark {
  /// Times one training step on each of the batches, after one on the first that warms up.
  package func train(on batches: [PackedBatch], name: String) throws -> DataBenchmark.Row {
    ProcessMemory.resetPeak()
    timed.resetPeak()
    let (_, optimizer) = try beginLearning()
    defer { model.attach(nil) }
    let most = batches.map(\.tokens.count).max() ?? 0
    try model.reserve(
      tokens: most, try model.activationPlan(.auto, tokens: most, context: most, budget: nil))
    _ = try model.trainingStep([batches[0]], optimizer, learningRate: 2e-4, seed: 3407)
    var norm = 0.0
    let began = MonotonicClock.now()
    for batch in batches {
      norm = try model.trainingStep([batch], optimizer, learningRate: 2e-4, seed: 3407).gradientNorm
    }
    let seconds = MonotonicClock.now() - began
    let computed = batches.reduce(0) { $0 + $1.tokens.count }
    let tokens = batches.reduce(0) { $0 + DataBenchmark.sampleTokens($1) }
    return DataBenchmark.Row(
      name: name, tokens: tokens, seconds: seconds, paddingShare: 1 - Double(tokens) / Double(max(1, computed)),
      peakBytes: timed.memory?.peak ?? ProcessMemory.peakByteCount, gradientNorm: norm)
  }
}
