import CPUDevice
import CUDADevice
import ModelFiles
import Models
import Tensors
import Training

/// Which device a run computes on.
public enum DeviceSelection {
  /// The device that `choice` names; `auto` is a GPU where one can be used, else the CPU.
  /// - Parameters:
  ///   - isDeterministic: the same run gives the same bits on a GPU too, at some speed.
  ///   - note: receives one line where a GPU is there and cannot be used.
  public static func device(
    _ choice: TrainingConfiguration.DeviceChoice, compute: TrainingConfiguration.Compute = .auto, threads: Int? = nil,
    isDeterministic: Bool = false, note: (String) -> Void = { _ in }
  ) throws -> any Device {
    if let threads { CPUDevice.useThreads(threads) }
    switch choice {
    case .cuda:
      guard compute != .fp32 else {
        throw DeviceError("the GPU computes in bf16; take --compute auto or bf16, or --device cpu")
      }
      return try CUDADevice(isDeterministic: isDeterministic)
    case .auto where compute != .fp32 && CUDALibraries.found.problem == nil:
      do { return try CUDADevice(isDeterministic: isDeterministic) } catch {
        note("\(error); computing on the CPU")
      }
    case .auto, .cpu: break
    }
    let operands: CPUDevice.Compute =
      switch compute {
      case .auto: .automatic
      case .bf16: .bfloat16
      case .fp32: .float32
      }
    return CPUDevice(compute: operands)
  }

  /// How the matrices of a model that is not trained are kept.
  ///
  /// What is quantized stays so: an answer's tokens read each weight once, in as few bits as there are, and a prompt opens it for
  /// a thousand tokens at a time. What `checkpoint` stores in NF4 stays so, and then only that.
  package static func storage(
    _ quantization: TrainingConfiguration.Quantization, storedIn checkpoint: Checkpoint? = nil,
    keeping kept: Set<String> = []
  ) -> WeightStorage {
    let others = kept.isEmpty ? checkpoint?.modulesBesideNF4 : kept
    guard quantization != .none || others != nil else { return .operands }
    return .nf4(resident: false, except: others ?? [])
  }
}

extension ModelConfiguration {
  /// Weights of all layers' projections.
  var projectionParameterCount: Int {
    layerCount * TargetModule.allCases.reduce(0) { $0 + size(of: $1).outputs * size(of: $1).inputs }
  }
}
