from worldmodel.client import Future as Future
from worldmodel.client import WorldModel as WorldModel
from worldmodel.planner import Planner as Planner
from worldmodel.trajectory import Start as Start
from worldmodel.trajectory import Trajectory as Trajectory
