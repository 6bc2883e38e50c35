/// What a layer keeps of its forward pass for its backward pass; the rest is computed again.
public enum LayerMemory: Int, Sendable, Comparable, CaseIterable {
  /// The residual stream before the layer: everything is computed again.
  case input
  /// That, and attention's output and statistics: attention is not computed again.
  case attention
  /// All but what the MLP's products yield: gate and up are computed again.
  case projections
  /// Everything that a product or attention yields.
  case everything

  /// Less is kept first.
  public static func < (a: LayerMemory, b: LayerMemory) -> Bool { a.rawValue < b.rawValue }
}

/// What a training step keeps between its passes and where, and how much of a batch goes through at once.
///
/// Every plan gives the same losses and gradients, to rounding.
public struct ActivationPlan: Sendable, Equatable {
  /// What one layer keeps.
  public struct Layer: Sendable, Equatable {
    /// How much of its forward pass.
    public var keeps: LayerMemory
    /// In the host's memory, where it goes while later layers compute and comes back from before it is needed.
    public var isOnHost: Bool

    /// A layer that keeps `keeps`.
    public init(_ keeps: LayerMemory, isOnHost: Bool = false) {
      self.keeps = keeps
      self.isOnHost = isOnHost
    }
  }

  /// Layers in groups, of which only the first one's input is kept from the forward pass on.
  ///
  /// When the backward pass comes to a group, its layers go forward once more from there, and keep what they need until they have
  /// gone backward, in places that all groups share. The last group is not computed again: it keeps that at once.
  public struct Grouping: Sendable, Equatable {
    /// Layers of a group, fewer in the first one where they do not come out even; 1: every layer by itself.
    public var size: Int
    /// Of how many of a group's first layers attention's output is kept beside the input; never of its last one.
    public var attentions: Int
    /// Whether what a group keeps for itself lies in the host's memory.
    public var isOnHost: Bool

    /// Groups of `size` layers.
    public init(_ size: Int, attentions: Int = 0, isOnHost: Bool = false) {
      self.size = size
      self.attentions = attentions
      self.isOnHost = isOnHost
    }

    /// The groups of `count` layers.
    public func groups(of count: Int) -> [Range<Int>] {
      let size = max(1, size)
      let missing = (size - count % size) % size
      return stride(from: -missing, to: count, by: size).map { max(0, $0)..<$0 + size }
    }
  }

  /// From the first layer on; in groups, only where a group's first layer keeps its input is asked.
  public var layers: [Layer]
  /// What layers beyond the list keep.
  public var rest: LayerMemory
  /// Whether what layers keep of the residual stream is rounded to the type of matrix operands, as the norms' backward pass
  /// reads it anyway: half the bytes, and what is computed again differs by that rounding.
  public var roundsInputs: Bool
  /// Tokens that everything but attention goes through at once; nil: all of a batch.
  public var tile: Int?
  /// Rows of logits at once; nil: as suits the device.
  public var headRows: Int?
  /// How layers are grouped; nil: each keeps what ``layers`` says from its forward pass to its backward one.
  public var grouping: Grouping?

  /// A plan from its parts.
  public init(
    _ layers: [Layer], rest: LayerMemory = .everything, roundsInputs: Bool = false, tile: Int? = nil,
    headRows: Int? = nil, grouping: Grouping? = nil
  ) {
    self.layers = layers
    self.rest = rest
    self.roundsInputs = roundsInputs
    self.tile = tile
    self.headRows = headRows
    self.grouping = grouping
  }

  /// Every layer keeps its activations: fastest.
  public static let everything = ActivationPlan([])
  /// Every layer keeps only its input.
  public static let inputs = ActivationPlan([], rest: .input)
  /// What each layer keeps, from the first on; layers beyond the list keep everything.
  public static func levels(_ levels: [LayerMemory]) -> ActivationPlan { ActivationPlan(levels.map { Layer($0) }) }

  /// What a layer keeps, and where.
  public subscript(layer: Int) -> Layer { layer < layers.count ? layers[layer] : Layer(rest) }
}
