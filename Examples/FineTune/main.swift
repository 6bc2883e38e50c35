// Fine-tunes a model from Swift: FineTune MODEL DATA OUTPUT STEPS
import Swiftlet

let words = CommandLine.arguments.dropFirst()
guard words.count == 4, let steps = Int(words[4]) else { throw ModelError("usage: FineTune MODEL DATA OUTPUT STEPS") }

let model = try Model.load(words[1])
print("before:", try model.generate(.user("Who are you?"), options: GenerationOptions(maxTokens: 40)).text)

var configuration = TrainingConfiguration(model: words[1], data: words[2])
configuration.output = words[3]
configuration.maxSteps = steps
let tuning = try FineTuning(model: model, configuration: configuration)
try tuning.run { progress in
  print("step \(progress.step) of \(progress.totalSteps): loss \(progress.loss)")
  return .continue
}

print("after:", try model.generate(.user("Who are you?"), options: GenerationOptions(maxTokens: 40)).text)
try model.saveAdapter(to: words[3] + "/adapter")
