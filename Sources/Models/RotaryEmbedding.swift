import ModelFiles
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// The angles by which queries and keys turn with their position (RoPE; Su et al., 2021), in every scaling that the
/// family uses, as transformers' `modeling_rope_utils` defines them.
public struct RotaryEmbedding: Sendable, Equatable {
  /// Features of a head that turn; the rest pass through.
  public let rotaryDimension: Int
  private let theta: Double
  private let scaling: RoPEScaling
  private let contextLength: Int

  /// The embedding that `configuration` describes.
  public init(_ configuration: ModelConfiguration) {
    let turning = Int(Double(configuration.headDimension) * configuration.partialRotaryFactor)
    rotaryDimension = turning - turning % 2
    theta = configuration.ropeTheta
    scaling = configuration.ropeScaling
    contextLength = configuration.contextLength
  }

  /// Radians per position of each pair of features, for sequences of `length` tokens, and what sines and cosines are
  /// multiplied by.
  public func frequencies(length: Int) -> (values: [Double], attentionFactor: Double) {
    let half = rotaryDimension / 2
    func base(_ theta: Double) -> [Double] {
      (0..<half).map { pow(theta, -2 * Double($0) / Double(rotaryDimension)) }
    }
    switch scaling {
    case .none:
      return (base(theta), 1)
    case .linear(let factor):
      return (base(theta).map { $0 / factor }, 1)
    case .dynamic(let factor):
      guard length > contextLength else { return (base(theta), 1) }
      let stretch = factor * Double(length) / Double(contextLength) - (factor - 1)
      return (base(theta * pow(stretch, Double(rotaryDimension) / Double(rotaryDimension - 2))), 1)
    case .llama3(let factor, let lowFrequencyFactor, let highFrequencyFactor, let originalContextLength):
      let original = Double(originalContextLength)
      return (
        base(theta).map { frequency in
          let wavelength = 2 * Double.pi / frequency
          if wavelength < original / highFrequencyFactor { return frequency }
          if wavelength > original / lowFrequencyFactor { return frequency / factor }
          let smooth = (original / wavelength - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor)
          return (1 - smooth) * frequency / factor + smooth * frequency
        }, 1
      )
    case .longRoPE(let shortFactors, let longFactors, let originalContextLength, let attentionFactor):
      let factors = length > originalContextLength ? longFactors : shortFactors
      return (zip(base(theta), factors).map { $0 / $1 }, attentionFactor)
    case .yarn(let factor, let original, let betaFast, let betaSlow, let truncates, let attentionFactor):
      let dimension = Double(rotaryDimension)
      /// The pair, as a place among the features, that turns `rotations` times within the original context.
      func place(_ rotations: Double) -> Double {
        dimension * log(Double(original) / (rotations * 2 * .pi)) / (2 * log(theta))
      }
      var (low, high) = (place(betaFast), place(betaSlow))
      if truncates { (low, high) = (low.rounded(.down), high.rounded(.up)) }
      (low, high) = (max(low, 0), min(high, dimension - 1))
      if low == high { high += 0.001 }
      let frequencies = base(theta).enumerated().map { index, frequency in
        let stretched = min(max((Double(index) - low) / (high - low), 0), 1)
        return frequency / factor * stretched + frequency * (1 - stretched)
      }
      return (frequencies, attentionFactor)
    case .factors(let factors):
      return (zip(base(theta), factors).map { $0 / Double($1) }, 1)
    }
  }

  /// The length that decides the frequencies of a sequence of `length` tokens that may reach `planned`.
  ///
  /// Short and long factors follow the tokens that are there: a cache is computed again when they cross the original
  /// length, as transformers does for Phi-3. A base that grows with every token is fixed in advance instead.
  func decidingLength(_ length: Int, planned: Int?) -> Int {
    if case .dynamic = scaling { return max(length, planned ?? 0) }
    return length
  }

  /// The sequence length that decides the frequencies: equal for lengths that share one table.
  func regime(length: Int) -> Int {
    switch scaling {
    case .dynamic: max(length, contextLength)
    case .longRoPE(_, _, let originalContextLength, _): length > originalContextLength ? 1 : 0
    default: 0
    }
  }
}

/// Tables of cosines and sines on a device, made when first needed and grown with the sequences.
final class RotaryTables {
  let embedding: RotaryEmbedding
  private let device: any Device
  private var regime = Int.min
  private var tables: (cosines: Tensor, sines: Tensor)?

  init(_ embedding: RotaryEmbedding, on device: any Device) {
    self.embedding = embedding
    self.device = device
  }

  /// fp32 `[positions, rotary/2]` each, for sequences of up to `length` tokens that may reach `reaching`.
  func tables(length: Int, reaching: Int = 0) throws -> (cosines: Tensor, sines: Tensor) {
    let wanted = embedding.regime(length: length)
    if let tables, wanted == regime, tables.cosines.rows >= length { return tables }
    let rows = max(wanted == regime ? max(length, 2 * (tables?.cosines.rows ?? 0)) : max(length, 512), reaching)
    let (frequencies, factor) = embedding.frequencies(length: length)
    var cosines: [Float] = []
    var sines: [Float] = []
    cosines.reserveCapacity(rows * frequencies.count)
    sines.reserveCapacity(rows * frequencies.count)
    for position in 0..<rows {
      for frequency in frequencies {
        // As the reference does: the frequency and the angle are rounded to fp32, the sine is not taken of a rounded table.
        let angle = Float(position) * Float(frequency)
        cosines.append(Float(cos(Double(angle)) * factor))
        sines.append(Float(sin(Double(angle)) * factor))
      }
    }
    let made = (
      cosines: try device.tensor(cosines, rows: rows, columns: frequencies.count),
      sines: try device.tensor(sines, rows: rows, columns: frequencies.count)
    )
    tables = made
    regime = wanted
    return made
  }
}

extension Device {
  /// An fp32 tensor with a buffer of its own that holds `values`.
  public func tensor(_ values: [Float], rows: Int = 1, columns: Int? = nil) throws -> Tensor {
    let columns = columns ?? values.count
    let tensor = Tensor(
      try allocate(byteCount: max(values.count * 4, 4)), rows: rows, columns: columns, dtype: .float32)
    try values.withUnsafeBytes { try upload($0, to: tensor) }
    return tensor
  }

  /// The values of a dense fp32 tensor.
  public func floats(_ tensor: Tensor) throws -> [Float] {
    try [Float](unsafeUninitializedCapacity: tensor.count) { buffer, count in
      try download(tensor, to: UnsafeMutableRawBufferPointer(buffer))
      count = tensor.count
    }
  }
}
