import ModelFiles
import Tensors

/// What a run learns: one flat fp32 vector with its gradients, which the optimizer, clipping and saving see as one array.
public protocol LearnedParameters: AnyObject {
  /// The tensors that the vector holds, one after the other; those that an optimizer treats alike lie together.
  var parts: [LearnedPart] { get }
  /// All elements: fp32 `[1, count]`.
  var parameters: Tensor { get }
  /// What a micro-batch's backward pass adds to: fp32 `[1, count]`; nil when nothing is trained.
  var gradients: Tensor? { get }

  /// Turns what the backward passes of a step have added up into gradients; once per step, before clipping.
  func finishGradients() throws
  /// Brings what the model reads up to date with ``parameters``.
  func refresh() throws
  /// A copy in the host's memory of `vector`, which is like ``parameters``; it can be written while training goes on.
  /// `baseModel` names the model.
  func snapshot(of vector: Tensor, baseModel: String?) throws -> any LearnedSnapshot
  /// Takes over what a ``LearnedSnapshot`` wrote into a folder.
  func load(folder: String) throws
}

/// One tensor of what a run learns.
public struct LearnedPart: Sendable {
  /// What a tensor is, as far as its optimizer cares.
  public enum Role: Sendable {
    /// A of a low-rank pair.
    case lowRankA
    /// B of a low-rank pair.
    case lowRankB
    /// A vector of scales or biases, which no weight decay shrinks.
    case vector
    /// A whole matrix.
    case matrix
  }

  /// Its name in files: PEFT's for an adapter, Hugging Face's for a weight.
  public let name: String
  /// The rows of its matrix; 1 for a vector.
  public let rows: Int
  /// The columns of its matrix.
  public let columns: Int
  /// Where its elements lie in ``LearnedParameters/parameters``.
  public let range: Range<Int>
  /// What it is.
  public let role: Role

  /// A part from its numbers.
  public init(name: String, rows: Int, columns: Int, range: Range<Int>, role: Role) {
    self.name = name
    self.rows = rows
    self.columns = columns
    self.range = range
    self.role = role
  }

  /// Its dimensions in files.
  public var shape: [Int] { role == .vector ? [columns] : [rows, columns] }
}

/// Learned values in the host's memory.
public protocol LearnedSnapshot: Sendable {
  /// Writes its files into a folder, which is made where it is missing.
  func save(to folder: String) throws
}

extension LearnedParameters {
  /// The number of learned elements.
  public var count: Int { parameters.columns }

  /// A copy of the values in the host's memory.
  public func snapshot(baseModel: String?) throws -> any LearnedSnapshot {
    try snapshot(of: parameters, baseModel: baseModel)
  }
}
