import CPUDevice
import Models

#if canImport(Glibc)
  import Glibc
#endif

/// How far a model's next-token distributions are from a reference's, as llama.cpp's perplexity tool reports it.
public struct Divergence: Sendable, Equatable {
  /// Mean of KL(reference ‖ model) over the predicted tokens, in nats.
  public var mean: Double
  /// Half of the tokens lie below.
  public var median: Double
  /// 99% of the tokens lie below.
  public var percentile99: Double
  /// 99.9% of the tokens lie below.
  public var percentile999: Double
  /// The largest.
  public var maximum: Double
  /// The share of tokens where both hold the same one for the likeliest.
  public var topAgreement: Double
  /// The model's perplexity.
  public var perplexity: Double
  /// The reference's perplexity.
  public var referencePerplexity: Double
  /// The number of predicted tokens.
  public var tokens: Int

  /// The model's perplexity over the reference's.
  public var perplexityRatio: Double { perplexity / referencePerplexity }

  /// Sums values of single tokens up.
  init(_ values: [Double], agreeing: Int, loss: Double, referenceLoss: Double) {
    let sorted = values.sorted()
    let count = sorted.count
    func percentile(_ fraction: Double) -> Double {
      let place = fraction * Double(count - 1)
      let below = Int(place)
      let part = place - Double(below)
      return (1 - part) * sorted[below] + part * sorted[min(below + 1, count - 1)]
    }
    mean = sorted.reduce(0, +) / Double(count)
    median = count % 2 == 0 ? (sorted[count / 2 - 1] + sorted[count / 2]) / 2 : sorted[count / 2]
    percentile99 = percentile(0.99)
    percentile999 = percentile(0.999)
    maximum = sorted[count - 1]
    topAgreement = Double(agreeing) / Double(count)
    perplexity = exp(loss / Double(count))
    referencePerplexity = exp(referenceLoss / Double(count))
    tokens = count
  }
}

extension Model {
  /// How far this model is from `reference` over the windows that ``perplexity(of:window:maxTokens:onProgress:)`` reads.
  ///
  /// Both must cut the text into the same tokens.
  public func divergence(
    from reference: Model, on text: String, window: Int = 512, maxTokens: Int? = nil,
    onProgress: ((Double) -> Bool)? = nil
  ) throws -> Divergence {
    guard window >= 2 else { throw ModelError("a window needs at least 2 tokens: the first predicts the second") }
    var tokens = tokenizer.encode(text, addSpecialTokens: false)
    let vocabulary = configuration.vocabularySize
    guard vocabulary == reference.configuration.vocabularySize,
      tokens == reference.tokenizer.encode(text, addSpecialTokens: false)
    else {
      throw ModelError(
        "\(path) and \(reference.path) have different vocabularies or tokenizers; their distributions cannot be compared"
      )
    }
    if let maxTokens { tokens = Array(tokens.prefix(maxTokens)) }
    guard tokens.count >= 2 else { throw ModelError("the text has \(tokens.count) tokens: at least 2 are needed") }
    let size = min(window, tokens.count)
    let windows = tokens.count / size
    var values: [Double] = []
    var (agreeing, loss, referenceLoss) = (0, 0.0, 0.0)
    for index in 0..<windows {
      var batch = PackedBatch()
      let ids = Array(tokens[index * size..<(index + 1) * size])
      batch.append(ids, isTrained: [Bool](repeating: true, count: size))
      var rows: [Float] = []
      rows.reserveCapacity((size - 1) * vocabulary)
      referenceLoss += try reference.language.logits(of: batch) { rows += try reference.language.device.floats($0) }
      var row = 0
      loss += try language.logits(of: batch) { [language] logits in
        let own = try language.device.floats(logits)
        let found = rows[(row * vocabulary)...].withUnsafeBufferPointer { rows in
          rows.baseAddress.map {
            Distributions.divergence($0, own, rows: logits.rows, vocabulary: vocabulary)
          }
        }
        guard let found else { return }
        values += found.divergence
        agreeing += found.agrees.count { $0 }
        row += logits.rows
      }
      if let onProgress, !onProgress(Double(index + 1) / Double(windows)) { break }
    }
    return Divergence(values, agreeing: agreeing, loss: loss, referenceLoss: referenceLoss)
  }
}
