// A warehouse, as the code of a custom experiment of AnyLogic would run it. The class Experiment is what
// you write in AnyLogic; Engine and Main stand in for AnyLogic's engine and for the exported model, and
// were not compared with the product. Written from https://anylogic.help/anylogic/running/engine-api.html
// and https://anylogic.help/anylogic/experiments/custom-experiment.html

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;

public class Experiment implements Drillyard.Model {
    private Engine engine;
    private Main root;

    public static void main(String[] arguments) throws Exception {
        Drillyard.serve(new Experiment());
    }

    @Override
    public void reset(Map<String, Double> config, long seed) {
        if (engine != null) {
            engine.stop();
        }
        engine = new Engine(); // in AnyLogic: createEngine()
        engine.getDefaultRandomGenerator().setSeed(seed);
        root = new Main(engine, null, null);
        root.setParametersToDefaultValues();
        root.demand = config.getOrDefault("demand", root.demand);
        root.stock = config.getOrDefault("stock", root.stock);
        engine.start(root);
    }

    @Override
    public void step(Map<String, Double> actions) {
        if (!actions.containsKey("order")) {
            throw new IllegalArgumentException("the action 'order' is missing");
        }
        root.order(actions.get("order"));
        engine.runFast(root.time() + 1); // one day
    }

    @Override
    public Map<String, Double> states() {
        Map<String, Double> states = new LinkedHashMap<>();
        states.put("stock", root.stock);
        states.put("coming", root.coming);
        states.put("demand", root.demand);
        states.put("unmet", root.unmet);
        return states;
    }

    @Override
    public boolean terminated() {
        return false;
    }
}

class Engine {
    private final Random random = new Random();
    private Main root;

    Random getDefaultRandomGenerator() {
        return random;
    }

    void start(Main top) {
        root = top;
    }

    void runFast(double until) {
        while (root.time() < until) {
            root.day();
        }
    }

    void stop() {
        root = null;
    }
}

class Main {
    double demand, stock, coming, unmet;
    private double time;
    private final Engine engine;

    Main(Engine engine, Object owner, Object population) {
        this.engine = engine;
    }

    void setParametersToDefaultValues() {
        demand = 20;
        stock = 50;
    }

    double time() {
        return time;
    }

    void order(double amount) {
        coming += amount;
    }

    /** What was ordered arrives in three days, on average; customers buy what is there. */
    void day() {
        double arrives = coming / 3;
        coming -= arrives;
        stock += arrives;
        double wanted = Math.max(0, demand + 4 * engine.getDefaultRandomGenerator().nextGaussian());
        double sold = Math.min(stock, wanted);
        unmet = wanted - sold;
        stock -= sold;
        time += 1;
    }
}
