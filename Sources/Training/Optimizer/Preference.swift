import Models
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// The loss of pairs of a better and a worse answer, and how it changes with each answer's.
enum Preference {
  /// Pairs of one micro-batch.
  struct Result: Equatable {
    /// The pairs' part of the step's mean loss.
    var loss = 0.0
    /// Sum of the pairs' margins: β times what the better answer is likelier by.
    var margin = 0.0
    /// Pairs whose better answer is the likelier one.
    var won = 0
    /// What the gradient of each answer's summed loss is multiplied by, better and worse by turns.
    var scales: [Float] = []
  }

  /// DPO: -log σ(β · ((log π(c) - log π(r)) - (log ρ(c) - log ρ(r)))), mean over a step's pairs.
  ///
  /// `losses`: -log π of answers, better and worse by turns; `reference`: the same of the model as it was; `pairs`: of the
  /// whole step. Source: Rafailov et al., 2023; the loss "sigmoid" of TRL.
  static func dpo(_ losses: [Double], reference: [Double], beta: Double, pairs: Int) -> Result {
    var result = Result()
    for index in stride(from: 0, to: losses.count - 1, by: 2) {
      let policy = losses[index + 1] - losses[index]
      let margin = beta * (policy - (reference[index + 1] - reference[index]))
      result.add(margin: margin)
      result.loss += softplus(-margin) / Double(pairs)
      let slope = beta * sigmoid(-margin) / Double(pairs)
      result.scales += [Float(slope), Float(-slope)]
    }
    return result
  }

  /// ORPO: the mean loss of the better answers' tokens, and -β · log σ(log odds(c) - log odds(r)) of mean log-likelihoods,
  /// mean over a step's pairs.
  ///
  /// `counts`: tokens of answers; `chosenTokens`: of the step's better answers. Source: Hong et al., 2024.
  static func orpo(_ losses: [Double], counts: [Int], beta: Double, pairs: Int, chosenTokens: Int) -> Result {
    var result = Result()
    for index in stride(from: 0, to: losses.count - 1, by: 2) {
      let (count, other) = (Double(max(1, counts[index])), Double(max(1, counts[index + 1])))
      let (chosen, rejected) = (-losses[index] / count, -losses[index + 1] / other)
      // 1 - p of each; an answer that is certain has no odds.
      let (doubt, otherDoubt) = (max(-expm1(chosen), 1e-12), max(-expm1(rejected), 1e-12))
      let odds = (chosen - log(doubt)) - (rejected - log(otherDoubt))
      result.add(margin: beta * (chosen - rejected))
      result.loss += losses[index] / Double(max(1, chosenTokens)) + beta * softplus(-odds) / Double(pairs)
      let slope = beta * sigmoid(-odds) / Double(pairs)
      result.scales += [
        Float(1 / Double(max(1, chosenTokens)) + slope / doubt / count), Float(-slope / otherDoubt / other),
      ]
    }
    return result
  }

  private static func sigmoid(_ x: Double) -> Double { x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)) }
  private static func softplus(_ x: Double) -> Double { max(x, 0) + log1p(exp(-abs(x))) }
}

extension Preference.Result {
  fileprivate mutating func add(margin: Double) {
    self.margin += margin
    if margin > 0 { won += 1 }
  }
}

extension PackedBatch {
  /// Trained tokens of each document.
  var trainedTokensByDocument: [Int] { documents.map { document in document.count { targets[$0] >= 0 } } }
}

/// The objective of a run: what a micro-batch adds to a step's loss and gradient.
struct Objective {
  /// What the run learns from.
  var method: TrainingConfiguration.Method
  /// How much a preference counts.
  var beta: Double
  /// Size of the noise on embeddings; nil: none.
  var neftuneAlpha: Double?

  /// What a whole step, or a whole evaluation, divides by.
  struct Totals {
    var trainedTokens: Int
    var pairs: Int
    var chosenTokens: Int

    mutating func add(_ other: Totals) {
      trainedTokens += other.trainedTokens
      pairs += other.pairs
      chosenTokens += other.chosenTokens
    }
  }

  /// Sums over micro-batches.
  func totals(_ batches: [PackedBatch]) -> Totals {
    let counts = method.learnsFromPairs ? batches.map(\.trainedTokensByDocument) : []
    return Totals(
      trainedTokens: batches.reduce(0) { $0 + $1.trainedTokenCount }, pairs: counts.reduce(0) { $0 + $1.count / 2 },
      chosenTokens: counts.reduce(0) { sum, counts in
        stride(from: 0, to: counts.count, by: 2).reduce(sum) { $0 + counts[$1] }
      })
  }

  /// Adds a micro-batch's gradient, and gives back its part of the step's mean loss.
  func forwardBackward(
    _ model: LanguageModel, _ batch: PackedBatch, _ totals: Totals, key: DropoutKey
  ) throws -> Preference.Result {
    let noise = neftuneAlpha.map { EmbeddingNoise(alpha: $0, key: key) }
    guard method.learnsFromPairs else {
      let scale = 1 / Float(totals.trainedTokens)
      let loss = try model.forwardBackward(batch, lossScale: scale, dropout: key, noise: noise)
      return Preference.Result(loss: loss / Double(totals.trainedTokens))
    }
    let reference = try reference(model, batch)
    var result = Preference.Result()
    try model.forwardBackward(batch, dropout: key, noise: noise) { losses in
      result = self.result(losses, reference, batch, totals)
      return result.scales
    }
    return result
  }

  /// A micro-batch's part of an evaluation's mean loss.
  func evaluate(_ model: LanguageModel, _ batch: PackedBatch, _ totals: Totals) throws -> Double {
    guard method.learnsFromPairs else { return try model.evaluate(batch) / Double(max(1, totals.trainedTokens)) }
    let reference = try reference(model, batch)
    return result(try model.documentLosses(batch), reference, batch, totals).loss
  }

  private func reference(_ model: LanguageModel, _ batch: PackedBatch) throws -> [Double] {
    method == .dpo ? try model.withoutAdapter { try model.documentLosses(batch) } : []
  }

  private func result(
    _ losses: [Double], _ reference: [Double], _ batch: PackedBatch, _ totals: Totals
  ) -> Preference.Result {
    method == .dpo
      ? Preference.dpo(losses, reference: reference, beta: beta, pairs: max(1, totals.pairs))
      : Preference.orpo(
        losses, counts: batch.trainedTokensByDocument, beta: beta, pairs: max(1, totals.pairs),
        chosenTokens: totals.chosenTokens)
  }
}

extension Objective {
  /// The objective that a configuration asks for.
  init(_ configuration: TrainingConfiguration) {
    self.init(
      method: configuration.method, beta: configuration.beta, neftuneAlpha: configuration.neftuneAlpha)
  }
}
