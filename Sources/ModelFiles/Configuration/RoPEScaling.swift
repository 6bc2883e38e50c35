/// How a model stretches its rotary positions beyond the length it was trained on first.
public enum RoPEScaling: Sendable, Equatable {
  /// The plain frequencies.
  case none
  /// Positions are divided by the factor.
  case linear(factor: Double)
  /// The base grows with the length once that exceeds the context length.
  case dynamic(factor: Double)
  /// Llama 3.1: long wavelengths are divided by the factor, short ones kept, those between blended.
  case llama3(
    factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalContextLength: Int)
  /// Every frequency is divided by a factor of its own; cosines and sines are multiplied by the attention factor.
  ///
  /// The long factors hold for sequences beyond the original context length, the short ones up to it. The attention
  /// factor is always resolved here: a checkpoint that names none has √(1 + ln(factor) / ln(original)), with the
  /// quotient of the two context lengths where it names no factor either.
  case longRoPE(
    shortFactors: [Double], longFactors: [Double], originalContextLength: Int, attentionFactor: Double)
  /// Frequencies that turn fewer than `betaSlow` times within the original context length are divided by the factor,
  /// those that turn more than `betaFast` times kept, those between blended (YaRN; Peng et al., 2023).
  ///
  /// `truncates` widens the blended range to whole frequencies. Cosines and sines are multiplied by the attention
  /// factor, which is always resolved here.
  // Indirect, so that the rarest scaling does not make every configuration larger.
  indirect case yarn(
    factor: Double, originalContextLength: Int, betaFast: Double, betaSlow: Double, truncates: Bool,
    attentionFactor: Double)
  /// Every frequency is divided by a factor of its own (the tensor `rope_freqs` of a GGUF).
  case factors([Float])
}
